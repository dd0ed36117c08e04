#include "kernels/kernels.hpp"

// The folders beside this file, the fastest first. Each defines `kernels()` in a namespace of its name.
#define INSTRUCTION_SETS(each) \
    each(avx512)

namespace chorus {

#define DECLARE(name) namespace name { Kernels kernels(); }
INSTRUCTION_SETS(DECLARE)
#undef DECLARE

static Kernels chosen() {
    Kernels best{};
    const auto fill = [&](const Kernels & own) {
        if (best.attention == nullptr) best.attention = own.attention;
        for (int kind = 0; kind < ACTIVATIONS; ++kind) {
            if (best.products[kind] == nullptr) best.products[kind] = own.products[kind];
        }
        if (best.sampler == nullptr) best.sampler = own.sampler;
    };
#define FILL(name) fill(name::kernels());
    INSTRUCTION_SETS(FILL)
#undef FILL
    return best;
}

const Kernels & kernels() {
    static const Kernels all = chosen();
    return all;
}

}  // namespace chorus
