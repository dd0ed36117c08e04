// What the sampler does with many tokens at once, for one instruction set.
#pragma once
#include <cstdint>

namespace chorus {

constexpr int WORDS = 16;  // of a vector

// Whether they were compiled, and this CPU has AVX-512.
bool has_words();

// The first word of Philox4x32-10 of (token, position, 0, 0) with the seed as its key, for WORDS tokens.
void words_of(uint64_t seed, uint32_t position, const int32_t * tokens, uint32_t * words);

// The sum of exp(logit - best) of so many whole vectors of WORDS logits; those not above `floor`, or none, count for nothing.
double mass_of(const float * logits, int vectors, float best, float floor);

}  // namespace chorus
