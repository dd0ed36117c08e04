// Llama (arXiv 2307.09288, 2407.21783), and what shares its layers: SmolLM2, Mistral. Grouped queries, rotary positions, a gated
// MLP. Some GGUF files have biases of q, k and v.
#include "architectures/layer.hpp"

namespace chorus {

namespace {

struct Attention {
    ggml_tensor * norm;
    Linear q, k, v, output;

    Attention(LayerTensors & t, const Shape & s)
        : norm(t.norm("attn_norm", s.width)), q(t.biased_or_not("attn_q", s.width, s.heads * s.head_dim)), k(t.biased_or_not("attn_k", s.width, s.kv_heads * s.head_dim)),
          v(t.biased_or_not("attn_v", s.width, s.kv_heads * s.head_dim)), output(t.linear("attn_output", s.heads * s.head_dim, s.width)) {}

    ggml_tensor * of(Blocks & b, int layer, ggml_tensor * h) const {
        ggml_tensor * x = b.norm(h, norm);
        ggml_tensor * queries = b.heads(b.linear(q, x));
        ggml_tensor * keys = b.heads(b.linear(k, x));
        return b.linear(output, b.attend(layer, b.rope(queries), b.rope(keys), b.linear(v, x)));
    }
};

}  // namespace

std::unique_ptr<Layers> llama(Tensors & tensors, const Shape & shape, const Shard & shard) {
    return std::make_unique<AlikeLayers<Attention, GatedMlp>>(tensors, shape, shard);
}

}  // namespace chorus
