// What the sampler does with many tokens at once, for one instruction set.
#pragma once
#include <cstdint>

namespace chorus {

constexpr int WORDS = 16;  // of a vector

// Whether they were compiled, and this CPU has AVX-512.
bool has_words();

// The first word of Philox4x32-10 of (token, position, 0, 0) with the seed as its key, for WORDS tokens.
void words_of(uint64_t seed, uint32_t position, const int32_t * tokens, uint32_t * words);

// The place of the first of the largest among so many whole vectors of WORDS logits; 0 where none is a number.
int argmax_of(const float * logits, int vectors);

// What a token has to have to be looked at: a logit that is not below `floor`, and with the largest variate that its word
// may give, (logit - best) * per_unit + g, no less than `least`.
struct Contest {
    float floor, best, per_unit, least;
    uint64_t seed;
    uint32_t position;
};

// Those tokens of so many whole vectors, and their words; gives how many. There is room for all.
int contenders_of(const float * logits, int vectors, const Contest & contest, int32_t * tokens, uint32_t * words);

// The first of the vectors from `from` on in which a logit is above `floor`; `vectors` where there is none.
int next_above(const float * logits, int from, int vectors, float floor);

// The sum of exp((logit - best) * per_unit) of so many whole vectors of WORDS logits; those not above `floor`, or none, count
// for nothing.
double mass_of(const float * logits, int vectors, float best, float per_unit, float floor);

// The sum of exp(logit - best + temperature * (g - highest)) of so many whole vectors, with each token's own variate g, to four
// digits: for a probability, not for a choice.
double perturbed_mass_of(const float * logits, int vectors, float best, float temperature, float highest, uint64_t seed, uint32_t position);

}  // namespace chorus
