// Qwen 2 and 2.5 (arXiv 2407.10671): Llama's layers with biases of q, k and v.
#include "architectures/layer.hpp"

namespace chorus {

namespace {

struct Attention {
    ggml_tensor * norm;
    Linear q, k, v, output;

    Attention(LayerTensors & t, const Shape & s)
        : norm(t.norm("attn_norm", s.width)), q(t.biased("attn_q", s.width, s.heads * s.head_dim)), k(t.biased("attn_k", s.width, s.kv_heads * s.head_dim)),
          v(t.biased("attn_v", s.width, s.kv_heads * s.head_dim)), output(t.linear("attn_output", s.heads * s.head_dim, s.width)) {}

    ggml_tensor * of(Blocks & b, int layer, ggml_tensor * h) const {
        ggml_tensor * x = b.norm(h, norm);
        ggml_tensor * queries = b.heads(b.linear(q, x));
        ggml_tensor * keys = b.heads(b.linear(k, x));
        return b.linear(output, b.attend(layer, b.rope(queries), b.rope(keys), b.linear(v, x)));
    }
};

}  // namespace

std::unique_ptr<Layers> qwen2(Tensors & tensors, const Shape & shape, const Shard & shard) {
    return std::make_unique<AlikeLayers<Attention, GatedMlp>>(tensors, shape, shard);
}

}  // namespace chorus
