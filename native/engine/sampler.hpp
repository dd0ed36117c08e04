// The sampler: Gumbel-max with common random numbers. The token at position p is argmax over v of logit_v / T + g(seed, p, v).
#pragma once
#include <array>
#include <cstdint>
#include <vector>

namespace chorus {

struct Sampling {
    float temperature;  // 0: argmax
    int top_k;          // 0: off
    float top_p, min_p, repetition_penalty;
    uint64_t seed;
};

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A standard Gumbel variate keyed by (seed, position, token).
float gumbel(uint64_t seed, uint32_t position, uint32_t token);

struct Candidate {
    int32_t token;
    float log_prob;
};

class Sampler {
  public:
    // logits [vocab], changed in place; history: the tokens before `position`.
    int32_t sample(float * logits, int vocab, const Sampling & sampling, uint32_t position, const std::vector<int32_t> & history);
    // The k best by perturbed logits, best first, with log-probabilities under softmax(logit + T g).
    void candidates(float * logits, int vocab, const Sampling & sampling, uint32_t position, const std::vector<int32_t> & history, int k, Candidate * out);

  private:
    struct Scored {
        float logit, score;
        int32_t token;
    };
    void survivors(float * logits, int vocab, const Sampling & sampling, const std::vector<int32_t> & history);
    std::vector<Scored> kept_;
};

}  // namespace chorus
