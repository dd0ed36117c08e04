// What the sampler does with many logits at once: the kernels of one instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

namespace chorus {

constexpr int WORDS = 16;  // of a vector

// Which tokens may win: those whose logit is not below `floor`, and whose (logit - best) * per_unit + g is not below `least`
// with the largest variate g that their word allows.
struct Contest {
    float floor, best, per_unit, least;
    uint64_t seed;
    uint32_t position;
};

// Logits come in whole vectors of WORDS; what is left over is the sampler's.
struct SamplerKernels {
    // The first word of Philox4x32-10 of (token, position, 0, 0) with the seed as its key, for WORDS tokens.
    void (*words)(uint64_t seed, uint32_t position, const int32_t * tokens, uint32_t * words);

    // The place of the first of the largest; 0 where none is a number.
    int (*argmax)(const float * logits, int vectors);

    // The tokens that `contest` admits, and their words; returns how many. There is room for all.
    int (*contenders)(const float * logits, int vectors, const Contest & contest, int32_t * tokens, uint32_t * words);

    // The first of the vectors from `from` on in which a logit is above `floor`; `vectors` where there is none.
    int (*next_above)(const float * logits, int from, int vectors, float floor);

    // The sum of exp((logit - best) * per_unit); those not above `floor`, or none, count for nothing.
    double (*mass)(const float * logits, int vectors, float best, float per_unit, float floor);

    // The sum of exp(logit - best + temperature * (g - highest)) with each token's own variate g, to four digits: for a
    // probability, not for a choice.
    double (*perturbed_mass)(const float * logits, int vectors, float best, float temperature, float highest, uint64_t seed, uint32_t position);
};

}  // namespace chorus
