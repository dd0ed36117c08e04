// Qwen 3 (arXiv 2505.09388): Llama's layers with norms of each head's q and k, before they are rotated.
#include "architectures/layer.hpp"

namespace chorus {

namespace {

struct Attention {
    ggml_tensor * norm;
    Linear q, k, v, output;
    ggml_tensor *q_norm, *k_norm;

    Attention(LayerTensors & t, const Shape & s)
        : norm(t.norm("attn_norm", s.width)), q(t.biased_or_not("attn_q", s.width, s.heads * s.head_dim)), k(t.biased_or_not("attn_k", s.width, s.kv_heads * s.head_dim)),
          v(t.biased_or_not("attn_v", s.width, s.kv_heads * s.head_dim)), output(t.linear("attn_output", s.heads * s.head_dim, s.width)),
          q_norm(t.norm("attn_q_norm", s.head_dim)), k_norm(t.norm("attn_k_norm", s.head_dim)) {}

    ggml_tensor * of(Blocks & b, int layer, ggml_tensor * h) const {
        ggml_tensor * x = b.norm(h, norm);
        ggml_tensor * queries = b.norm(b.heads(b.linear(q, x)), q_norm);
        ggml_tensor * keys = b.norm(b.heads(b.linear(k, x)), k_norm);
        return b.linear(output, b.attend(layer, b.rope(queries), b.rope(keys), b.linear(v, x)));
    }
};

}  // namespace

std::unique_ptr<Layers> qwen3(Tensors & tensors, const Shape & shape, const Shard & shard) {
    return std::make_unique<AlikeLayers<Attention, GatedMlp>>(tensors, shape, shard);
}

}  // namespace chorus
