// Questions about a row of logits, [vocab]. NaN is ignored.
#pragma once
#include <cstdint>
#include <vector>

namespace chorus {

// The token of the largest, the lower one of equals; 0 if there is nothing to choose from.
int argmax(const float * logits, int vocab);

// The k best, best first, the lower token of equals first.
void best_of(const float * logits, int vocab, int k, std::vector<int32_t> & out);

// The sum of exp((logit - best) / temperature) over those above `floor`.
double mass_of(const float * logits, int vocab, float best, double temperature, float floor);

// log of the sum of exp(logit - best); what lies 20 below the best does not change a float.
double log_mass(const float * logits, int vocab, float best);

// How many whole vectors the kernels take; the logits after them are taken one by one.
int vectors_of(int vocab);

}  // namespace chorus
