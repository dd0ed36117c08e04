// What is asked of a row of logits, [vocab]. One that is NaN counts for nothing.
#pragma once
#include <cstdint>
#include <vector>

namespace chorus {

// The largest, the lower token of equals; 0 where there is nothing to choose from.
int argmax(const float * logits, int vocab);

// The k best, best first, the lower token of equals first.
void best_of(const float * logits, int vocab, int k, std::vector<int32_t> & out);

// The sum of exp((logit - best) / temperature) over those above `floor`.
double mass_of(const float * logits, int vocab, float best, double temperature, float floor);

// log of the sum of exp(logit - best); what lies 20 below the best does not change a float.
double log_mass(const float * logits, int vocab, float best);

// Vectors that kernels go through; what follows them is gone through one by one.
int vectors_of(int vocab);

}  // namespace chorus
