// The result of a head for its rows: tokens, candidates, or the logits themselves.
#pragma once
#include "engine/pass.hpp"

namespace chorus {

class Head {
  public:
    // logits: [vocab, op.rows].
    void read(const Op & op, const Pass & pass, int vocab, std::vector<float> logits, StretchResult & result);

  private:
    void token_of(const Op & op, size_t i, const Session & session, uint32_t position, const std::vector<int32_t> & history, float * logits, int vocab, StretchResult & result);
    int32_t sampled(const Session & session, uint32_t position, const std::vector<int32_t> & history, float * logits, int vocab);

    Sampler sampler_;
    std::vector<float> adjusted_;  // a copy of a row's logits
    std::vector<int32_t> best_;
    std::vector<Candidate> candidates_;
};

}  // namespace chorus
