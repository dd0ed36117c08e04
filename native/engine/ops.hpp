// The steps of a stretch, and what comes of them; native/index.ts says what each does.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace chorus {

struct Op {
    enum class Kind { embed, receive, layers, attend, mlps, emit, head } kind;
    std::vector<uint8_t> hidden;                                // receive
    int from = 0, to = 0;                                       // layers
    std::vector<int> layers;                                    // attend, mlps
    bool returned = true;                                       // attend: whether the host gets A too
    std::vector<std::optional<std::vector<uint8_t>>> attended;  // mlps
    bool whole = false;                                         // mlps
    std::vector<int32_t> rows;                                  // head
    enum class Want { tokens, candidates, logits } want = Want::tokens;
    int k = 0;                   // candidates
    int top = 0;                 // tokens: alternatives of each row
    std::vector<int32_t> given;  // tokens: one per row, in place of the sampler's; or none
};

struct StretchResult {
    std::vector<std::vector<uint8_t>> hiddens, attended;
    bool has_tokens = false, has_log_probs = false, has_logits = false;
    std::vector<int32_t> tokens;
    std::vector<float> log_probs, logits;
    bool has_top = false;
    std::vector<int32_t> top_tokens;  // [rows, top]
    std::vector<float> top_log_probs;
    double micros = 0;
};

}  // namespace chorus
