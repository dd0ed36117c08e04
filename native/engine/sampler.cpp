#include "sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>

namespace chorus {

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = uint64_t(0xD2511F53u) * c[0], b = uint64_t(0xCD9E8D57u) * c[2];
        c = {uint32_t(b >> 32) ^ c[1] ^ k[0], uint32_t(b), uint32_t(a >> 32) ^ c[3] ^ k[1], uint32_t(a)};
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    return c;
}

float gumbel(uint64_t seed, uint32_t position, uint32_t token) {
    const uint32_t word = philox({token, position, 0, 0}, {uint32_t(seed), uint32_t(seed >> 32)})[0];
    const double uniform = (double(word) + 0.5) * 0x1p-32;
    return float(-std::log(-std::log(uniform)));
}

// The largest and the smallest Gumbel variate of a 32-bit uniform differ by less than this, so no token further behind the
// best one (in units of the temperature) can win.
static constexpr float REACH = 26.0f;

static float best_of(const float * logits, int vocab) {
    float best = -std::numeric_limits<float>::infinity();
    for (int v = 0; v < vocab; ++v) best = std::max(best, logits[v]);
    return best;
}

static void penalise(float * logits, int vocab, float penalty, const std::vector<int32_t> & history) {
    if (penalty == 1.0f) return;
    for (const int32_t token : std::unordered_set<int32_t>(history.begin(), history.end())) {
        if (token >= 0 && token < vocab) logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
    }
}

// Leaves in kept_ the tokens that top-k, top-p and min-p let through and that can win.
void Sampler::survivors(float * logits, int vocab, const Sampling & s, const std::vector<int32_t> & history) {
    penalise(logits, vocab, s.repetition_penalty, history);
    const float best = best_of(logits, vocab);
    const bool cuts = s.top_k > 0 || s.top_p < 1.0f;
    // top-k and top-p look at tokens from the best down: those within reach, and no other, can be both kept and win; the
    // mass that top-p counts is that of all.
    const float floor = best - REACH * s.temperature;
    kept_.clear();
    double mass = 0;
    for (int v = 0; v < vocab; ++v) {
        if (s.top_p < 1.0f) mass += std::exp(double(logits[v] - best) / s.temperature);
        if (logits[v] >= floor) kept_.push_back({logits[v], 0, v});
    }
    if (s.min_p > 0) {
        const float least = best + s.temperature * std::log(s.min_p);
        kept_.erase(std::remove_if(kept_.begin(), kept_.end(), [&](const Scored & c) { return c.logit < least; }), kept_.end());
    }
    if (!cuts) return;
    std::sort(kept_.begin(), kept_.end(), [](const Scored & a, const Scored & b) { return a.logit > b.logit || (a.logit == b.logit && a.token < b.token); });
    if (s.top_k > 0 && kept_.size() > size_t(s.top_k)) kept_.resize(size_t(s.top_k));
    if (s.top_p < 1.0f) {
        if (s.top_k > 0) {
            mass = 0;
            for (const auto & c : kept_) mass += std::exp(double(c.logit - best) / s.temperature);
        }
        double seen = 0;
        size_t keep = 0;
        while (keep < kept_.size() && (keep == 0 || seen < s.top_p * mass)) seen += std::exp(double(kept_[keep++].logit - best) / s.temperature);
        kept_.resize(keep);
    }
}

int32_t Sampler::sample(float * logits, int vocab, const Sampling & s, uint32_t position, const std::vector<int32_t> & history) {
    if (s.temperature <= 0) {
        penalise(logits, vocab, s.repetition_penalty, history);
        return int32_t(std::max_element(logits, logits + vocab) - logits);
    }
    survivors(logits, vocab, s, history);
    int32_t winner = 0;
    float highest = -std::numeric_limits<float>::infinity();
    for (const auto & c : kept_) {
        const float score = c.logit / s.temperature + gumbel(s.seed, position, uint32_t(c.token));
        if (score > highest || (score == highest && c.token < winner)) highest = score, winner = c.token;
    }
    return winner;
}

void Sampler::candidates(float * logits, int vocab, const Sampling & s, uint32_t position, const std::vector<int32_t> & history, int k, Candidate * out) {
    if (s.temperature <= 0) {
        penalise(logits, vocab, s.repetition_penalty, history);
        kept_.clear();
        for (int v = 0; v < vocab; ++v) kept_.push_back({logits[v], logits[v], v});
    } else {
        survivors(logits, vocab, s, history);
        for (auto & c : kept_) c.score = c.logit + s.temperature * gumbel(s.seed, position, uint32_t(c.token));
    }
    const auto higher = [](const Scored & a, const Scored & b) { return a.score > b.score || (a.score == b.score && a.token < b.token); };
    const size_t count = std::min(size_t(k), kept_.size());
    float best = -std::numeric_limits<float>::infinity();
    for (const auto & c : kept_) best = std::max(best, c.score);
    double mass = 0;
    for (const auto & c : kept_) mass += std::exp(double(c.score - best));
    std::partial_sort(kept_.begin(), kept_.begin() + std::ptrdiff_t(count), kept_.end(), higher);
    const double log_mass = std::log(mass);
    for (size_t i = 0; i < size_t(k); ++i) {
        // Fewer survivors than k: the rest cannot be chosen.
        out[i] = i < count ? Candidate{kept_[i].token, float(double(kept_[i].score - best) - log_mass)} : Candidate{kept_[0].token, -std::numeric_limits<float>::infinity()};
    }
}

}  // namespace chorus
