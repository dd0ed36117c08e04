// Random numbers by a counter: what a token at a position has is a function of the seed alone.
#pragma once
#include <array>
#include <cstdint>

namespace chorus {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The first word of (token, position, 0, 0) with the seed as key.
uint32_t word_of(uint64_t seed, uint32_t position, uint32_t token);

// The standard Gumbel variate of a word.
double gumbel_of(uint32_t word);

// No variate of the word is larger, and this one takes no logarithm.
double most_of(uint32_t word);

}  // namespace chorus
