// Kernels whose number of rows is a constant, for any number of rows. Static: each file that includes it has a copy of its own.
#pragma once

namespace chorus::avx512 {

namespace {

template <int R> struct Count {
    static constexpr int rows = R;
};

template <int MOST, typename Call> inline void with_count(int rows, const Call & call) {
    if constexpr (MOST > 1) {
        if (rows < MOST) return with_count<MOST - 1>(rows, call);
    }
    call(Count<MOST>{});
}

// Calls for at most MOST rows at a time, with the first of them and their Count.
template <int MOST, typename Call> inline void for_rows(int rows, const Call & call) {
    for (int first = 0; first < rows; first += MOST) with_count<MOST>(rows - first, [&](auto count) { call(first, count); });
}

}  // namespace

}  // namespace chorus::avx512
