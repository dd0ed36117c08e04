// A session as an engine knows it: how its tokens are chosen, its KV, and the tree beyond the committed slots.
#pragma once
#include <vector>

#include "ggml-cpp.h"
#include "sampler/sampler.hpp"

namespace chorus {

struct Session {
    Sampling sampling;
    int committed = 0, used = 0, capacity = 0;
    std::vector<int32_t> tokens, positions, parents;  // by slot
    std::vector<ggml_tensor *> keys, values;          // by layer, [head_dim * kv_heads, capacity]; null where the shard has none
    ggml_context_ptr ctx;
    ggml_backend_buffer_ptr buffer;

    // The tokens of a row's path, its own the last: the committed ones, and its ancestors, which are listed from the row up.
    std::vector<int32_t> history(const std::vector<int> & ancestors) const {
        std::vector<int32_t> path(tokens.begin(), tokens.begin() + committed);
        for (auto slot = ancestors.rbegin(); slot != ancestors.rend(); ++slot) path.push_back(tokens[size_t(*slot)]);
        return path;
    }
};

}  // namespace chorus
