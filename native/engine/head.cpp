#include "engine/head.hpp"

#include <limits>

#include "sampler/logits.hpp"

namespace chorus {

// A logit that is NaN, or minus infinity, has the lowest of numbers as its log-probability.
static float finite(double log_prob) {
    const double lowest = std::numeric_limits<float>::lowest();
    return log_prob > lowest ? float(log_prob) : float(lowest);
}

void Head::read(const Op & op, const Pass & pass, int vocab, std::vector<float> logits, StretchResult & result) {
    if (op.want == Op::Want::logits) {
        result.has_logits = true;
        result.logits = std::move(logits);
        return;
    }
    result.has_tokens = result.has_log_probs = true;
    result.has_top = op.top > 0;
    for (size_t i = 0; i < op.rows.size(); ++i) {
        const int row = op.rows[i];
        const Pass::Part & part = pass.part_of(row);
        const Session & session = *part.session;
        const uint32_t position = uint32_t(pass.positions[size_t(row)] + 1);
        std::vector<int32_t> history;
        if (session.sampling.looks_back()) history = session.history(part.ancestors[size_t(row - part.first_row)]);
        float * at = logits.data() + i * size_t(vocab);
        if (op.want == Op::Want::tokens) {
            token_of(op, i, session, position, history, at, vocab, result);
            continue;
        }
        candidates_.resize(size_t(op.k));
        sampler_.candidates(at, vocab, session.sampling, position, history, op.k, candidates_.data());
        for (const auto & candidate : candidates_) {
            result.tokens.push_back(candidate.token);
            result.log_probs.push_back(candidate.log_prob);
        }
    }
}

// One row's token, with its log-probability and those of the alternatives, all under softmax(logits).
void Head::token_of(const Op & op, size_t i, const Session & session, uint32_t position, const std::vector<int32_t> & history, float * logits, int vocab, StretchResult & result) {
    const float best = logits[argmax(logits, vocab)];
    const double mass = log_mass(logits, vocab, best);
    const int32_t token = op.given.empty() ? sampled(session, position, history, logits, vocab) : op.given[i];
    const auto log_prob = [&](int32_t of) { return finite(double(logits[of] - best) - mass); };
    result.tokens.push_back(token);
    result.log_probs.push_back(log_prob(token));
    if (op.top == 0) return;
    best_of(logits, vocab, op.top, best_);
    best_.resize(size_t(op.top), token);  // fewer only where logits are NaN
    for (const int32_t other : best_) {
        result.top_tokens.push_back(other);
        result.top_log_probs.push_back(log_prob(other));
    }
}

// The sampler changes the logits where the request does; the log-probabilities are those of the model.
int32_t Head::sampled(const Session & session, uint32_t position, const std::vector<int32_t> & history, float * logits, int vocab) {
    if (session.sampling.adjusts(position)) {
        adjusted_.assign(logits, logits + vocab);
        logits = adjusted_.data();
    }
    return sampler_.sample(logits, vocab, session.sampling, position, history);
}

}  // namespace chorus
