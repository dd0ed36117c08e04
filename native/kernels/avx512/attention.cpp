// Compiled for AVX-512 alone: see kernels.hpp for what that forbids.
#include "avx512.hpp"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__F16C__)

#include "exp.hpp"

namespace chorus::avx512 {

namespace {

constexpr int LANES = 16;
constexpr int HEADS = 4;  // whose sums are added up together

inline __m512 vector_at(const uint16_t * at) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(at))); }
inline __m512 vector_at(const float * at) { return _mm512_loadu_ps(at); }

inline size_t slot_of(const Seen & seen, int i) { return size_t(i < seen.committed ? i : seen.more[i - seen.committed]) * seen.stride; }

// The sums of four vectors, each in the same order.
inline __m128 sums(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 low = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd)));
    const __m512 high = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd)));
    const __m512 all = _mm512_add_ps(low, high);
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// scores[h][slot] = scale * q[h] . k[slot], of up to four heads.
template <int V, typename T> void dots(const float * q, int heads, float scale, const Seen & seen, int slots, float * scores, size_t room) {
    __m512 queries[HEADS][V];
    for (int h = 0; h < HEADS; ++h) {
        for (int v = 0; v < V; ++v) queries[h][v] = _mm512_loadu_ps(q + size_t(h < heads ? h : heads - 1) * V * LANES + v * LANES);
    }
    alignas(16) float four[HEADS];
    for (int i = 0; i < slots; ++i) {
        const T * at = static_cast<const T *>(seen.keys) + slot_of(seen, i);
        __m512 sum[HEADS];
        __m512 key = vector_at(at);
        for (int h = 0; h < HEADS; ++h) sum[h] = _mm512_mul_ps(queries[h][0], key);
        for (int v = 1; v < V; ++v) {
            key = vector_at(at + v * LANES);
            for (int h = 0; h < HEADS; ++h) sum[h] = _mm512_fmadd_ps(queries[h][v], key, sum[h]);
        }
        _mm_store_ps(four, _mm_mul_ps(sums(sum[0], sum[1], sum[2], sum[3]), _mm_set1_ps(scale)));
        for (int h = 0; h < heads; ++h) scores[size_t(h) * room + size_t(i)] = four[h];
    }
}

// Scores to e^(score - largest); returns their sum. The rest of the last vector becomes zeros.
float weights(float * scores, int slots) {
    const int last = (slots + LANES - 1) / LANES * LANES;
    for (int i = slots; i < last; ++i) scores[i] = -__builtin_inff();
    __m512 most = _mm512_set1_ps(-__builtin_inff());
    for (int i = 0; i < last; i += LANES) most = _mm512_max_ps(most, _mm512_loadu_ps(scores + i));
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < last; i += LANES) {
        const __mmask16 real = i + LANES <= slots ? __mmask16(0xffff) : __mmask16((1u << (slots - i)) - 1);
        const __m512 e = _mm512_maskz_mov_ps(real, exp_of(_mm512_sub_ps(_mm512_loadu_ps(scores + i), most)));
        _mm512_storeu_ps(scores + i, e);
        sum = _mm512_add_ps(sum, e);
    }
    return _mm512_reduce_add_ps(sum);
}

// y[h] = sum over slots of scores[h][slot] v[slot] / total[h], of H heads.
template <int V, int H, typename T> void mixes(const float * scores, size_t room, const float * totals, const Seen & seen, int slots, float * y) {
    __m512 sum[H][V];
    for (int h = 0; h < H; ++h) {
        for (int v = 0; v < V; ++v) sum[h][v] = _mm512_setzero_ps();
    }
    for (int i = 0; i < slots; ++i) {
        const T * at = static_cast<const T *>(seen.values) + slot_of(seen, i);
        for (int v = 0; v < V; ++v) {
            const __m512 value = vector_at(at + v * LANES);
            for (int h = 0; h < H; ++h) sum[h][v] = _mm512_fmadd_ps(_mm512_set1_ps(scores[size_t(h) * room + size_t(i)]), value, sum[h][v]);
        }
    }
    for (int h = 0; h < H; ++h) {
        for (int v = 0; v < V; ++v) _mm512_storeu_ps(y + (h * V + v) * LANES, _mm512_div_ps(sum[h][v], _mm512_set1_ps(totals[h])));
    }
}

template <int V, typename T> void attend_as(const float * q, int heads, float scale, const Seen & seen, float * scores, float * y) {
    const int slots = seen.committed + seen.more_count;
    const size_t room = size_t(slots) + LANES;
    for (int first = 0; first < heads; first += HEADS) {
        const int count = heads - first < HEADS ? heads - first : HEADS;
        const float * queries = q + size_t(first) * V * LANES;
        float * to = y + size_t(first) * V * LANES;
        dots<V, T>(queries, count, scale, seen, slots, scores, room);
        float totals[HEADS];
        for (int h = 0; h < count; ++h) totals[h] = weights(scores + size_t(h) * room, slots);
        int h = 0;
        for (; h + 2 <= count; h += 2) mixes<V, 2, T>(scores + size_t(h) * room, room, totals + h, seen, slots, to + h * V * LANES);
        if (h < count) mixes<V, 1, T>(scores + size_t(h) * room, room, totals + h, seen, slots, to + h * V * LANES);
    }
}

template <int V> void attend_in(const float * q, int heads, float scale, const Seen & seen, float * scores, float * y) {
    return seen.halves ? attend_as<V, uint16_t>(q, heads, scale, seen, scores, y) : attend_as<V, float>(q, heads, scale, seen, scores, y);
}

bool takes(int head_dim) { return head_dim == 32 || head_dim == 64 || head_dim == 96 || head_dim == 128; }

void attend(const float * q, int heads, int head_dim, float scale, const Seen & seen, float * scores, float * y) {
    switch (head_dim) {
        case 32: return attend_in<2>(q, heads, scale, seen, scores, y);
        case 64: return attend_in<4>(q, heads, scale, seen, scores, y);
        case 96: return attend_in<6>(q, heads, scale, seen, scores, y);
        default: return attend_in<8>(q, heads, scale, seen, scores, y);
    }
}

void to_halves(const float * from, int count, uint16_t * to) {
    for (int i = 0; i < count; i += LANES) {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i), _mm512_cvtps_ph(_mm512_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}

constexpr AttentionKernels TABLE{takes, attend, to_halves};

}  // namespace

const AttentionKernels * attention() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") ? &TABLE : nullptr; }

}  // namespace chorus::avx512

#else

namespace chorus::avx512 {

const AttentionKernels * attention() { return nullptr; }

}  // namespace chorus::avx512

#endif
