#include "sampler/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/kernels.hpp"
#include "sampler/logits.hpp"
#include "sampler/random.hpp"

namespace chorus {

namespace {

constexpr double NEVER = -std::numeric_limits<double>::infinity();

// The largest and the smallest Gumbel variate of a 32-bit uniform lie 26.004 apart, so no token further behind the best one
// (in units of the temperature) can win: the generator runs for those within reach alone.
constexpr double REACH = 26.01;
const double MOST = gumbel_of(UINT32_MAX);  // no variate is larger

// A share of e to this power does not show in a probability, whatever the vocabulary.
constexpr double FAINT = -20;

// A bias of this or less is a ban, whatever the logit.
constexpr double BAN = -100;

// Temperatures whose inverse a float holds with room for a logit.
constexpr double COLDEST = 1e-6;

}  // namespace

bool Sampler::higher_score(const Scored & a, const Scored & b) { return a.score > b.score || (a.score == b.score && a.token < b.token); }

// The k best of `ranked`, whose scores are in units of `unit` logits. Fewer than k: the rest cannot be chosen.
void Sampler::tell(const std::vector<Scored> & ranked, double unit, double log_mass, int k, Candidate * out) {
    for (size_t i = 0; i < size_t(k); ++i) {
        const bool there = i < ranked.size() && ranked[i].score > NEVER;
        out[i] = there ? Candidate{ranked[i].token, float((ranked[i].score - ranked[0].score) * unit - log_mass)}
                       : Candidate{ranked.empty() ? 0 : ranked[0].token, -std::numeric_limits<float>::infinity()};
    }
}

// What a request changes of the logits before anything is cut. Each step leaves a float, as in the reference.
void Sampler::adjust(float * logits, int vocab, const Sampling & s, uint32_t position, const std::vector<int32_t> & history) {
    for (const Bias & bias : s.bias) {
        if (bias.token < vocab) logits[bias.token] = bias.logit <= BAN ? float(NEVER) : float(logits[bias.token] + bias.logit);
    }
    if (s.looks_back()) penalise(logits, vocab, s, history);
    if (position >= s.barred_before) return;
    for (const int32_t token : s.barred) {
        if (token < vocab) logits[token] = float(NEVER);
    }
}

void Sampler::penalise(float * logits, int vocab, const Sampling & s, const std::vector<int32_t> & history) {
    counts_.resize(size_t(vocab), 0);
    for (size_t at = 0; at < history.size(); ++at) {
        const int32_t token = history[at];
        if (token < 0 || token >= vocab) continue;
        int32_t & count = counts_[size_t(token)];
        count = std::max(count, 1) + (at >= s.answer ? 1 : 0);
    }
    for (const int32_t token : history) {
        if (token < 0 || token >= vocab || counts_[size_t(token)] == 0) continue;
        const int32_t times = counts_[size_t(token)] - 1;
        float & logit = logits[token];
        logit = float(logit > 0 ? logit / s.repetition_penalty : logit * s.repetition_penalty);
        const float often = float(times * s.frequency_penalty);
        if (times > 0) logit = float(double(logit) - often - s.presence_penalty);
        counts_[size_t(token)] = 0;
    }
}

// Leaves in kept_ the tokens that top-k, then top-p, then min-p let through and that can win. Each cut keeps the best of what
// the one before left, so none needs more than the tokens within reach, but for the mass that top-p takes its share of.
void Sampler::survivors(const float * logits, int vocab, int top, const Sampling & s) {
    const double best_logit = logits[top];
    const double floor = best_logit - REACH * s.temperature;
    if (s.top_k > 0) best_of(logits, vocab, s.top_k, best_);
    kept_.clear();
    if (s.top_k > 0) {
        for (const int32_t v : best_) kept_.push_back({logits[v], v, 0});
        while (!kept_.empty() && !(kept_.back().logit >= floor)) kept_.pop_back();
    } else {
        kept_.resize(size_t(vocab));
        size_t count = 0;
        for (int v = 0; v < vocab; ++v) {
            kept_[count] = {logits[v], v, 0};
            count += logits[v] >= floor;
        }
        kept_.resize(count);
    }
    if (s.top_p < 1) nucleus(logits, vocab, top, s);
    const auto weight = [&](const Scored & c) { return std::exp((double(c.logit) - best_logit) / s.temperature); };
    if (s.min_p > 0) {
        kept_.erase(std::remove_if(kept_.begin(), kept_.end(), [&](const Scored & c) { return weight(c) < s.min_p; }), kept_.end());
    }
    for (auto & c : kept_) c.score = (double(c.logit) - best_logit) / s.temperature;  // without its variate
}

// The best of kept_ until they have top_p of the mass of all that top-k has left. Only as many as are needed are sorted.
void Sampler::nucleus(const float * logits, int vocab, int top, const Sampling & s) {
    const double best_logit = logits[top];
    const auto weight = [&](float logit) { return std::exp((double(logit) - best_logit) / s.temperature); };
    double all = 0;
    if (s.top_k > 0) {
        for (const int32_t v : best_) all += weight(logits[v]);
    } else {
        all = mass_of(logits, vocab, logits[top], s.temperature, -std::numeric_limits<float>::infinity());
    }
    const auto higher = [](const Scored & a, const Scored & b) { return a.logit > b.logit || (a.logit == b.logit && a.token < b.token); };
    double seen = 0;
    size_t keep = 0, sorted = s.top_k > 0 ? kept_.size() : 0;
    while (keep < kept_.size() && (keep == 0 || seen < s.top_p * all)) {
        if (keep == sorted) {
            sorted = std::min(kept_.size(), std::max<size_t>(64, 8 * sorted));
            std::partial_sort(kept_.begin() + std::ptrdiff_t(keep), kept_.begin() + std::ptrdiff_t(sorted), kept_.end(), higher);
        }
        seen += weight(kept_[keep++].logit);
    }
    kept_.resize(keep);
}

// The random word of each kept token.
void Sampler::draw(uint64_t seed, uint32_t position) {
    const size_t count = kept_.size(), room = (count + WORDS - 1) / WORDS * WORDS;
    words_.resize(room);
    const SamplerKernels * own = kernels().sampler;
    if (own == nullptr) {
        for (size_t i = 0; i < count; ++i) words_[i] = word_of(seed, position, uint32_t(kept_[i].token));
        return;
    }
    tokens_.assign(room, 0);
    for (size_t i = 0; i < count; ++i) tokens_[i] = kept_[i].token;
    for (size_t i = 0; i < room; i += WORDS) own->words(seed, position, &tokens_[i], &words_[i]);
}

// Of all tokens, with the random words of those alone that may win against the one of the highest logit.
int32_t Sampler::sample_all(const float * logits, int vocab, int top, const Sampling & s, uint32_t position) {
    const int vectors = vocab / WORDS;
    const double best = logits[top];
    int32_t winner = top;
    double highest = gumbel_of(word_of(s.seed, position, uint32_t(top)));
    const auto meet = [&](int32_t token, uint32_t word) {
        const double score = (double(logits[token]) - best) / s.temperature + gumbel_of(word);
        if (score > highest || (score == highest && token < winner)) highest = score, winner = token;
    };
    const float floor = float(best - REACH * s.temperature), slack = 1e-3f;  // for what floats lose
    const Contest contest{floor, float(best), float(1 / s.temperature), float(highest) - slack, s.seed, position};
    tokens_.resize(size_t(vocab));
    words_.resize(size_t(vocab));
    const int count = kernels().sampler->contenders(logits, vectors, contest, tokens_.data(), words_.data());
    for (int i = 0; i < count; ++i) meet(tokens_[size_t(i)], words_[size_t(i)]);
    for (int32_t token = vectors * WORDS; token < vocab; ++token) {
        if (logits[token] >= floor) meet(token, word_of(s.seed, position, uint32_t(token)));
    }
    return winner;
}

int32_t Sampler::sample(float * logits, int vocab, const Sampling & s, uint32_t position, const std::vector<int32_t> & history) {
    adjust(logits, vocab, s, position, history);
    const int top = argmax(logits, vocab);
    if (s.temperature == 0) return top;
    const bool cuts = s.top_k > 0 || s.top_p < 1 || s.min_p > 0;
    if (!cuts && kernels().sampler != nullptr && s.temperature >= COLDEST && std::isfinite(logits[top])) return sample_all(logits, vocab, top, s, position);
    survivors(logits, vocab, top, s);
    draw(s.seed, position);
    int32_t winner = 0;
    double highest = NEVER;
    for (size_t i = 0; i < kept_.size(); ++i) {
        const Scored & c = kept_[i];
        const uint32_t word = words_[i];
        if (c.score + most_of(word) < highest) continue;  // most of them, without a logarithm
        const double score = c.score + gumbel_of(word);
        if (score > highest || (score == highest && c.token < winner)) highest = score, winner = c.token;
    }
    return winner;
}

void Sampler::candidates(float * logits, int vocab, const Sampling & s, uint32_t position, const std::vector<int32_t> & history, int k, Candidate * out) {
    adjust(logits, vocab, s, position, history);
    if (s.temperature == 0) return greedy_candidates(logits, vocab, k, out);
    const int top = argmax(logits, vocab);
    const bool cuts = s.top_k > 0 || s.top_p < 1 || s.min_p > 0;
    if (!cuts && s.temperature >= COLDEST && std::isfinite(logits[top])) return perturbed_candidates(logits, vocab, top, s, position, k, out);
    survivors(logits, vocab, top, s);
    draw(s.seed, position);
    for (size_t i = 0; i < kept_.size(); ++i) kept_[i].score += gumbel_of(words_[i]);
    const size_t count = std::min(size_t(k), kept_.size());
    std::partial_sort(kept_.begin(), kept_.begin() + std::ptrdiff_t(count), kept_.end(), higher_score);
    const double best = kept_.empty() ? NEVER : kept_[0].score;
    double mass = 0;
    for (const auto & c : kept_) mass += std::exp((c.score - best) * s.temperature);
    tell(kept_, s.temperature, std::log(mass), k, out);
}

void Sampler::greedy_candidates(const float * logits, int vocab, int k, Candidate * out) {
    best_of(logits, vocab, k, best_);
    kept_.clear();
    for (const int32_t v : best_) kept_.push_back({logits[v], v, logits[v]});
    tell(kept_, 1, kept_.empty() ? 0 : log_mass(logits, vocab, kept_[0].logit), k, out);
}

// Of all tokens: those alone get an exact variate that may be among the k best, which score no less than the k best logits.
void Sampler::perturbed_candidates(const float * logits, int vocab, int top, const Sampling & s, uint32_t position, int k, Candidate * out) {
    const SamplerKernels * own = kernels().sampler;
    const int vectors = vectors_of(vocab);
    const double best_logit = logits[top];
    const auto word = [&](int32_t token) { return word_of(s.seed, position, uint32_t(token)); };
    const auto score = [&](int32_t token, double variate) { return (double(logits[token]) - best_logit) / s.temperature + variate; };
    best_of(logits, vocab, k, best_);
    double least = std::numeric_limits<double>::infinity();
    for (const int32_t v : best_) least = std::min(least, score(v, gumbel_of(word(v))));
    least -= 1e-3 + 1e-6 * std::abs(least);  // for what floats lose
    const float lowest = std::numeric_limits<float>::lowest();
    const Contest contest{lowest, float(best_logit), float(1 / s.temperature), float(least), s.seed, position};
    tokens_.resize(size_t(vocab));
    words_.resize(size_t(vocab));
    const int count = own == nullptr ? 0 : own->contenders(logits, vectors, contest, tokens_.data(), words_.data());
    kept_.clear();
    for (int i = 0; i < count; ++i) kept_.push_back({0, tokens_[size_t(i)], score(tokens_[size_t(i)], gumbel_of(words_[size_t(i)]))});
    for (int32_t v = vectors * WORDS; v < vocab; ++v) {
        if (logits[v] >= lowest && score(v, MOST) >= least) kept_.push_back({0, v, score(v, gumbel_of(word(v)))});
    }
    std::partial_sort(kept_.begin(), kept_.begin() + std::ptrdiff_t(std::min(size_t(k), kept_.size())), kept_.end(), higher_score);
    const double highest = kept_[0].score;
    double mass = own == nullptr ? 0 : own->perturbed_mass(logits, vectors, float(best_logit), float(s.temperature), float(highest), s.seed, position);
    for (int32_t v = vectors * WORDS; v < vocab; ++v) {
        if (s.temperature * (score(v, MOST) - highest) > FAINT) mass += std::exp(s.temperature * (score(v, gumbel_of(word(v))) - highest));
    }
    tell(kept_, s.temperature, std::log(mass), k, out);
}

}  // namespace chorus
