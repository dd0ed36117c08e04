// One layer's attention by ggml's flash attention, on any device: one node per session, with a mask of what each row sees.
#pragma once
#include <vector>

#include "engine/pass.hpp"

namespace chorus {

class Blocks;

class FlashAttention {
  public:
    // The most tensors that a session's rows take.
    static size_t most_nodes(int rows);

    // As Blocks::attend, with k [head_dim * kv_heads, rows].
    ggml_tensor * over(Blocks & b, int layer, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v);

  private:
    ggml_tensor * of_part(Blocks & b, size_t index, int layer, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v);
    ggml_tensor * mask_of(Blocks & b, size_t index);

    std::vector<ggml_tensor *> masks_;  // by part of the pass, the same for all layers
    std::vector<std::vector<ggml_fp16_t>> mask_values_;
};

}  // namespace chorus
