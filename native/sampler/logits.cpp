#include "sampler/logits.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/kernels.hpp"

namespace chorus {

// This many of the best are found in one pass over the logits; for more, they are sorted.
constexpr int FEW = 1024;

int vectors_of(int vocab) { return kernels().sampler == nullptr ? 0 : vocab / WORDS; }

double mass_of(const float * logits, int vocab, float best, double temperature, float floor) {
    const int vectors = vectors_of(vocab);
    double sum = vectors == 0 ? 0 : kernels().sampler->mass(logits, vectors, best, float(1 / temperature), floor);
    for (int v = vectors * WORDS; v < vocab; ++v) {
        if (logits[v] > floor) sum += std::exp(double(logits[v] - best) / temperature);
    }
    return sum;
}

double log_mass(const float * logits, int vocab, float best) { return std::log(mass_of(logits, vocab, best, 1, best - 20.0f)); }

int argmax(const float * logits, int vocab) {
    const int vectors = vectors_of(vocab);
    int best = vectors == 0 ? 0 : kernels().sampler->argmax(logits, vectors);
    float highest = vectors > 0 && !std::isnan(logits[best]) ? logits[best] : -std::numeric_limits<float>::infinity();
    for (int v = vectors * WORDS; v < vocab; ++v) {
        if (logits[v] > highest) highest = logits[best = v];
    }
    return best;
}

void best_of(const float * logits, int vocab, int k, std::vector<int32_t> & out) {
    const auto better = [&](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); };
    out.clear();
    if (k > FEW) {
        for (int32_t v = 0; v < vocab; ++v) {
            if (!std::isnan(logits[v])) out.push_back(v);
        }
        const size_t count = std::min(size_t(k), out.size());
        std::partial_sort(out.begin(), out.begin() + std::ptrdiff_t(count), out.end(), better);
        return out.resize(count);
    }
    const auto meet = [&](int32_t v) {  // k is small: most tokens meet the worst of those kept and go no further
        if (std::isnan(logits[v]) || (int(out.size()) == k && !better(v, out.back()))) return;
        out.insert(std::upper_bound(out.begin(), out.end(), v, better), v);
        if (int(out.size()) > k) out.pop_back();
    };
    const int vectors = vectors_of(vocab);
    for (int i = 0; i < vectors; ++i) {
        if (int(out.size()) == k && (i = kernels().sampler->next_above(logits, i, vectors, logits[out.back()])) == vectors) break;
        for (int32_t v = i * WORDS; v < (i + 1) * WORDS; ++v) meet(v);
    }
    for (int32_t v = vectors * WORDS; v < vocab; ++v) meet(v);
}

}  // namespace chorus
