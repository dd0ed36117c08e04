// What architectures are put together from: a layer's tensors by their names, and layers that are alike.
#pragma once
#include <optional>

#include "architectures/architecture.hpp"
#include "engine/blocks.hpp"
#include "weights/tensors.hpp"

namespace chorus {

// The tensors of one layer, by their names after "blk.N.".
class LayerTensors {
  public:
    LayerTensors(Tensors & all, int layer) : all_(all), prefix_("blk." + std::to_string(layer) + ".") {}

    ggml_tensor * norm(const std::string & module, int64_t size) { return all_.vector(prefix_ + module + ".weight", size); }
    Linear linear(const std::string & module, int64_t inputs, int64_t outputs) { return {all_.matrix(prefix_ + module + ".weight", inputs, outputs), nullptr}; }
    Linear biased(const std::string & module, int64_t inputs, int64_t outputs) {
        return {linear(module, inputs, outputs).weight, all_.vector(prefix_ + module + ".bias", outputs)};
    }
    Linear biased_or_not(const std::string & module, int64_t inputs, int64_t outputs) {
        return all_.has(prefix_ + module + ".bias") ? biased(module, inputs, outputs) : linear(module, inputs, outputs);
    }

  private:
    Tensors & all_;
    std::string prefix_;
};

// Layers that all have an Attention and an Mlp. Each of these is made of LayerTensors and a Shape, and has `of(blocks, layer, h)`.
template <typename Attention, typename Mlp> class AlikeLayers : public Layers {
  public:
    AlikeLayers(Tensors & tensors, const Shape & shape, const Shard & shard) : attentions_(size_t(shape.layers)), mlps_(size_t(shape.layers)) {
        for (int i = 0; i < shape.layers; ++i) {
            LayerTensors layer(tensors, i);
            if (shard.attention[size_t(i)]) attentions_[size_t(i)].emplace(layer, shape);
            if (shard.mlp[size_t(i)]) mlps_[size_t(i)].emplace(layer, shape);
        }
    }
    ggml_tensor * attention(Blocks & b, int layer, ggml_tensor * h) const override { return attentions_[size_t(layer)]->of(b, layer, h); }
    ggml_tensor * mlp(Blocks & b, int layer, ggml_tensor * h) const override { return mlps_[size_t(layer)]->of(b, layer, h); }

  private:
    std::vector<std::optional<Attention>> attentions_;
    std::vector<std::optional<Mlp>> mlps_;
};

// SwiGLU (Shazeer 2020): down(silu(gate x) * up x).
struct GatedMlp {
    ggml_tensor * norm;
    Linear gate, up, down;

    GatedMlp(LayerTensors & t, const Shape & s)
        : norm(t.norm("ffn_norm", s.width)), gate(t.linear("ffn_gate", s.width, s.ffn)), up(t.linear("ffn_up", s.width, s.ffn)), down(t.linear("ffn_down", s.ffn, s.width)) {}

    ggml_tensor * of(Blocks & b, int, ggml_tensor * h) const {
        ggml_tensor * x = b.norm(h, norm);
        return b.linear(down, ggml_swiglu_split(b.ctx, b.linear(gate, x), b.linear(up, x)));
    }
};

}  // namespace chorus
