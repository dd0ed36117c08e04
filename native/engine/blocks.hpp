// What the layers of an architecture are built from. Each adds nodes to the graph of a stretch; rows are the pass's.
#pragma once
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/attention.hpp"
#include "engine/flash_attention.hpp"
#include "engine/options.hpp"
#include "engine/pass.hpp"
#include "kernels/products.hpp"

namespace chorus {

class Weights;

struct Linear {
    ggml_tensor * weight;  // [inputs, outputs]
    ggml_tensor * bias;    // or null
};

class Blocks {
  public:
    Blocks(ggml_context * ctx, ggml_cgraph * graph, const Weights & weights, const Options & options, const Pass & pass)
        : ctx(ctx), graph(graph), pass(pass), options(options), weights_(weights) {}

    ggml_tensor * linear(const Linear & linear, ggml_tensor * x);    // [inputs, rows] to [outputs, rows]
    ggml_tensor * norm(ggml_tensor * x, ggml_tensor * weight);       // RMS over the first dimension
    ggml_tensor * heads(ggml_tensor * x);                            // [head_dim * n, rows] as [head_dim, n, rows]
    ggml_tensor * rope(ggml_tensor * x);                             // rotates [head_dim, n, rows] by the rows' positions
    // Softmax(q k^T / sqrt(head_dim)) v over what each row sees of its session: q and k [head_dim, n, rows],
    // v [head_dim * kv_heads, rows]; returns [head_dim * heads, rows]. First k and v are written to the rows' slots.
    ggml_tensor * attend(int layer, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v);
    ggml_tensor * joined(std::vector<ggml_tensor *> parts);          // their rows in one tensor

    // Copied from `data` once memory is allocated, by `fill`.
    ggml_tensor * input(ggml_type type, int64_t ne0, int64_t ne1, const void * data);
    void fill();

    ggml_context * const ctx;
    ggml_cgraph * const graph;
    const Pass & pass;
    const Options & options;

  private:
    ggml_tensor * quantised(ggml_tensor * x, Activations as);

    const Weights & weights_;
    ggml_tensor * positions_ = nullptr;
    std::map<std::pair<ggml_tensor *, Activations>, ggml_tensor *> quantised_;  // of activations that several matrices multiply
    std::vector<std::unique_ptr<LayerAttention>> attentions_;  // of our own kernel
    FlashAttention flash_;
    std::vector<std::pair<ggml_tensor *, const void *>> inputs_;
};

}  // namespace chorus
