// One stretch as a ggml graph: record the steps, allocate, fill the inputs, compute. The model reads top to bottom here.
#pragma once
#include "engine/attention.hpp"
#include "engine/engine.hpp"

namespace chorus {

class Graph {
  public:
    // memory: for the tensors' descriptions; it grows to what the stretch needs.
    Graph(Weights & weights, const Options & options, Pass & pass, const std::vector<Op> & ops, std::vector<uint8_t> & memory);

    void record(Op & op);
    void finish();  // h goes back to the pass
    void fill();    // inputs, once memory is allocated

    ggml_cgraph * graph = nullptr;
    ggml_tensor * h = nullptr;     // [width, rows]
    ggml_tensor * head = nullptr;  // [vocab, rows of the head]
    const Op * head_op = nullptr;
    std::vector<ggml_tensor *> emitted;
    struct Attended {
        int layer;
        ggml_tensor * a;
        bool returned;
    };
    std::vector<Attended> attended;

  private:
    ggml_tensor * embed();
    ggml_tensor * attention(int layer, ggml_tensor * x);  // A_i, without the residual
    ggml_tensor * mlp(int layer, ggml_tensor * x);        // MLP_i, without the residual
    ggml_tensor * mlps(Op & op, ggml_tensor * x);
    ggml_tensor * logits(ggml_tensor * x, const std::vector<int32_t> & rows);

    ggml_tensor * linear(ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x);
    ggml_tensor * quantised(ggml_tensor * x, Activations as);
    ggml_tensor * norm(ggml_tensor * x, ggml_tensor * weight);
    ggml_tensor * rope(ggml_tensor * x);
    ggml_tensor * attend(const Pass::Part & part, size_t index, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, int layer);
    ggml_tensor * attend_alone(ggml_tensor * query, ggml_tensor * keys, ggml_tensor * values, ggml_tensor * mask, float scale);
    ggml_tensor * joined(std::vector<ggml_tensor *> parts);
    ggml_tensor * input(ggml_type type, int64_t ne0, int64_t ne1, const void * data);
    ggml_tensor * mask_of(size_t part);
    ggml_tensor * attended_of(Op & op, size_t index);
    ggml_tensor * copied(ggml_tensor * x);

    Weights & weights_;
    const Options & options_;
    Pass & pass_;
    ggml_context_ptr owner_;
    ggml_context * ctx_;
    ggml_tensor * positions_ = nullptr;
    std::map<std::pair<ggml_tensor *, Activations>, ggml_tensor *> quantised_;  // of activations that several matrices multiply
    std::vector<std::unique_ptr<LayerAttention>> attentions_;  // of our own kernel
    std::vector<ggml_tensor *> masks_;
    std::vector<std::vector<ggml_fp16_t>> mask_values_;
    std::vector<std::pair<ggml_tensor *, const void *>> inputs_;
};

}  // namespace chorus
