// The sampler: Gumbel-max with common random numbers (Daliri, Musco, Suresh 2024). The token at position p is argmax over v
// of logit_v / T + g(seed, p, v). src/speculation/sampler.ts says the same in fewer words; a test holds the two together.
#pragma once
#include <cstdint>
#include <vector>

namespace chorus {

struct Bias {
    int32_t token;
    double logit;  // is added
};

struct Sampling {
    double temperature;  // 0: argmax
    int top_k;           // 0: off
    double top_p, min_p, repetition_penalty;
    double presence_penalty, frequency_penalty;
    uint32_t answer;  // position from which these two count
    std::vector<Bias> bias;
    std::vector<int32_t> barred;
    uint32_t barred_before;  // position
    uint64_t seed;

    bool looks_back() const { return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0; }
    bool adjusts(uint32_t position) const { return looks_back() || !bias.empty() || (!barred.empty() && position < barred_before); }
};

struct Candidate {
    int32_t token;
    float log_prob;
};

class Sampler {
  public:
    // logits [vocab], changed in place; history: the tokens before `position`, from the first on. A logit that is NaN is never
    // chosen.
    int32_t sample(float * logits, int vocab, const Sampling & sampling, uint32_t position, const std::vector<int32_t> & history);
    // The k best by perturbed logits, best first, with log-probabilities under softmax(logit + T g).
    void candidates(float * logits, int vocab, const Sampling & sampling, uint32_t position, const std::vector<int32_t> & history, int k, Candidate * out);

  private:
    struct Scored {
        float logit;
        int32_t token;
        double score;
    };
    static bool higher_score(const Scored & a, const Scored & b);
    static void tell(const std::vector<Scored> & ranked, double unit, double log_mass, int k, Candidate * out);
    void adjust(float * logits, int vocab, const Sampling & sampling, uint32_t position, const std::vector<int32_t> & history);
    void penalise(float * logits, int vocab, const Sampling & sampling, const std::vector<int32_t> & history);
    int32_t sample_all(const float * logits, int vocab, int top, const Sampling & sampling, uint32_t position);
    void greedy_candidates(const float * logits, int vocab, int k, Candidate * out);
    void perturbed_candidates(const float * logits, int vocab, int top, const Sampling & sampling, uint32_t position, int k, Candidate * out);
    void survivors(const float * logits, int vocab, int top, const Sampling & sampling);
    void nucleus(const float * logits, int vocab, int top, const Sampling & sampling);
    void draw(uint64_t seed, uint32_t position);
    std::vector<Scored> kept_;
    std::vector<int32_t> best_;
    std::vector<int32_t> counts_;  // by token: 0, or one more than how often it occurs in the answer
    std::vector<int32_t> tokens_;
    std::vector<uint32_t> words_;  // of kept_, in its order
};

}  // namespace chorus
