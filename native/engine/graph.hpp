// One stretch as a ggml graph: its steps are recorded, memory is allocated, inputs are filled, and it is computed.
#pragma once
#include "engine/blocks.hpp"

namespace chorus {

class Graph {
  public:
    // memory: for the tensors' descriptions; it grows to what the stretch needs.
    Graph(const Weights & weights, const Options & options, Pass & pass, std::vector<Op> & ops, std::vector<uint8_t> & memory);

    void fill() { blocks_->fill(); }  // once memory is allocated

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

    // What it is made of: two with the same plan differ in sizes alone.
    static std::vector<int> plan_of(const Pass & pass, const std::vector<Op> & ops);

  private:
    void record(Op & op);
    void attend(const Op & op);
    ggml_tensor * mlps(Op & op, ggml_tensor * x);
    ggml_tensor * logits(ggml_tensor * x, const std::vector<int32_t> & rows);
    ggml_tensor * attended_of(Op & op, size_t index);
    ggml_tensor * copied(ggml_tensor * x);

    const Weights & weights_;
    const Options & options_;
    Pass & pass_;
    ggml_context_ptr owner_;
    ggml_context * ctx_;
    std::optional<Blocks> blocks_;
};

}  // namespace chorus
