// One layer's attention of all the rows of a pass over the KV of their sessions, on a CPU with a kernel of our own.
//
// ggml's attention takes one node per session, and visits slots one by one and head by head; with many short sessions that is
// more than half of a step. Here a row's result is the same bits in every batch too: its slots are taken in the order of their
// positions, wherever they lie, and no sum depends on another row.
#pragma once
#include <memory>
#include <vector>

#include "engine/pass.hpp"
#include "weights/shape.hpp"

namespace chorus {

class LayerAttention {
  public:
    // Whether there is a kernel for such a cache.
    static bool possible(const ggml_tensor * cache, int head_dim);
    LayerAttention(const Pass & pass, int layer, const Shape & shape);

    // q [head_dim, heads, rows], k and v [head_dim * kv_heads, rows]; returns [head_dim * heads, rows]. First k and v are written to the rows' slots.
    ggml_tensor * over(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v);

  private:
    static void keep(ggml_tensor * kept, int thread, int threads, void * self);
    static void attend(ggml_tensor * y, int thread, int threads, void * self);
    void attend_row(const Pass::Part & part, int row, int kv_head, const float * q, float * y) const;

    const Pass & pass_;
    const size_t layer_;
    const Shape & shape_;
};

}  // namespace chorus
