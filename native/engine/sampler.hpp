// The sampler: Gumbel-max with common random numbers (Daliri, Musco, Suresh 2024). The token at position p is argmax over v
// of logit_v / T + g(seed, p, v). src/speculation/sampler.ts says the same in fewer words; a test holds the two together.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

namespace chorus {

struct Sampling {
    double temperature;  // 0: argmax
    int top_k;           // 0: off
    double top_p, min_p, repetition_penalty;
    uint64_t seed;
};

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

struct Candidate {
    int32_t token;
    float log_prob;
};

// The lowest of the equally likely ones; 0 where there is nothing to choose from.
int argmax(const float * logits, int vocab);

class Sampler {
  public:
    // logits [vocab], changed in place; history: the tokens before `position`. A logit that is NaN is never chosen.
    int32_t sample(float * logits, int vocab, const Sampling & sampling, uint32_t position, const std::vector<int32_t> & history);
    // The k best by perturbed logits, best first, with log-probabilities under softmax(logit + T g).
    void candidates(float * logits, int vocab, const Sampling & sampling, uint32_t position, const std::vector<int32_t> & history, int k, Candidate * out);

    // The k best by the logits as they are, best first, the lower token of equals first.
    void best(const float * logits, int vocab, int k, std::vector<int32_t> & out);

  private:
    struct Scored {
        float logit;
        int32_t token;
        double score;
    };
    int32_t sample_all(const float * logits, int vocab, int top, const Sampling & sampling, uint32_t position);
    void survivors(const float * logits, int vocab, int top, const Sampling & sampling);
    void draw(uint64_t seed, uint32_t position);
    std::vector<Scored> kept_;
    std::vector<float> sorted_;
    std::vector<int32_t> tokens_;
    std::vector<uint32_t> words_;  // of kept_, in its order
};

}  // namespace chorus
