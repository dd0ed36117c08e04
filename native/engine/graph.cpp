#include "engine/graph.hpp"

#include <stdexcept>

#include "weights/weights.hpp"

namespace chorus {

namespace {

constexpr size_t MOST_NODES = 1 << 19;

// More tensors than the stretch can need: each session has its own attention, in pieces where its rows are many.
size_t most_nodes(const Pass & pass, const std::vector<Op> & ops) {
    size_t layers = 0, attention = 64;
    for (const Op & op : ops) layers += 1 + op.layers.size() + size_t(op.to - op.from);
    for (const auto & part : pass.parts) attention += FlashAttention::most_nodes(part.rows);
    const size_t nodes = 64 + layers * attention;
    if (nodes > MOST_NODES) throw std::invalid_argument("ops: expected less work in one stretch; it takes up to " + std::to_string(nodes) + " steps of at most " + std::to_string(MOST_NODES));
    return nodes;
}

bool in_order(const std::vector<int32_t> & rows) {
    for (size_t i = 0; i < rows.size(); ++i) {
        if (rows[i] != int(i)) return false;
    }
    return true;
}

}  // namespace

Graph::Graph(const Weights & weights, const Options & options, Pass & pass, std::vector<Op> & ops, std::vector<uint8_t> & memory)
    : weights_(weights), options_(options), pass_(pass) {
    const size_t nodes = most_nodes(pass, ops);
    const size_t needed = ggml_tensor_overhead() * nodes + ggml_graph_overhead_custom(nodes, false);
    if (memory.size() < needed) memory.resize(needed);
    owner_.reset(ggml_init({memory.size(), memory.data(), true}));
    ctx_ = owner_.get();
    graph = ggml_new_graph_custom(ctx_, nodes, false);
    blocks_.emplace(ctx_, graph, weights, options, pass);
    if (pass.has_h) h = pass.h.tensor;
    for (Op & op : ops) record(op);
    if (h != nullptr && h != pass.h.tensor) ggml_build_forward_expand(graph, ggml_cpy(ctx_, h, pass.h.tensor));
}

std::vector<int> Graph::plan_of(const Pass & pass, const std::vector<Op> & ops) {
    std::vector<int> plan{pass.has_h};
    for (const auto & part : pass.parts) plan.push_back(part.rows);
    for (const Op & op : ops) {
        plan.insert(plan.end(), {-1, int(op.kind), op.from, op.to, op.whole, in_order(op.rows), int(op.rows.size())});
        plan.insert(plan.end(), op.layers.begin(), op.layers.end());
        for (const auto & block : op.attended) plan.push_back(block.has_value());
    }
    return plan;
}

void Graph::record(Op & op) {
    Blocks & b = *blocks_;
    switch (op.kind) {
        case Op::Kind::embed: h = ggml_get_rows(ctx_, weights_.embedding, b.input(GGML_TYPE_I32, pass_.rows(), 1, pass_.tokens.data())); break;
        case Op::Kind::receive: h = b.input(GGML_TYPE_F32, options_.shape.width, pass_.rows(), op.hidden.data()); break;
        case Op::Kind::layers:
            for (int i = op.from; i < op.to; ++i) {
                h = ggml_add(ctx_, h, weights_.layers->attention(b, i, h));
                h = ggml_add(ctx_, h, weights_.layers->mlp(b, i, h));
            }
            break;
        case Op::Kind::attend: attend(op); break;
        case Op::Kind::mlps: h = mlps(op, h); break;
        case Op::Kind::emit: emitted.push_back(copied(h)); break;
        case Op::Kind::head:
            head = logits(h, op.rows);
            head_op = &op;
            break;
    }
    if (h != nullptr) ggml_build_forward_expand(graph, h);
}

// A result that is read after the graph has run must not share memory with anything later.
ggml_tensor * Graph::copied(ggml_tensor * x) {
    ggml_tensor * copy = ggml_cont(ctx_, x);
    ggml_set_output(copy);
    ggml_build_forward_expand(graph, copy);
    return copy;
}

void Graph::attend(const Op & op) {
    for (const int layer : op.layers) attended.push_back({layer, copied(weights_.layers->attention(*blocks_, layer, h)), op.returned});
    ggml_build_forward_expand(graph, ggml_cpy(ctx_, h, pass_.room_for_first()));
}

// h += A_i; h += MLP_i(h), in the order of the layers; or, as an ablation, whole layers in parallel: h += A_i + MLP_i(first + A_i).
ggml_tensor * Graph::mlps(Op & op, ggml_tensor * x) {
    const auto mlp = [&](int layer, ggml_tensor * from) { return weights_.layers->mlp(*blocks_, layer, from); };
    for (size_t j = 0; j < op.layers.size(); ++j) {
        ggml_tensor * a = attended_of(op, j);
        if (op.whole) {
            x = ggml_add(ctx_, ggml_add(ctx_, x, a), mlp(op.layers[j], ggml_add(ctx_, pass_.first.tensor, a)));
        } else {
            x = ggml_add(ctx_, x, a);
            x = ggml_add(ctx_, x, mlp(op.layers[j], x));
        }
    }
    return x;
}

ggml_tensor * Graph::attended_of(Op & op, size_t index) {
    if (op.attended[index]) return blocks_->input(GGML_TYPE_F32, options_.shape.width, pass_.rows(), op.attended[index]->data());
    for (auto at = attended.rbegin(); at != attended.rend(); ++at) {
        if (at->layer == op.layers[index]) return at->a;
    }
    return pass_.kept.at(op.layers[index]).tensor;
}

ggml_tensor * Graph::logits(ggml_tensor * x, const std::vector<int32_t> & rows) {
    const bool all = int(rows.size()) == pass_.rows() && in_order(rows);
    if (!all) x = ggml_get_rows(ctx_, x, blocks_->input(GGML_TYPE_I32, int64_t(rows.size()), 1, rows.data()));
    ggml_tensor * out = blocks_->linear({weights_.output, nullptr}, blocks_->norm(x, weights_.output_norm));
    ggml_set_output(out);
    ggml_build_forward_expand(graph, out);
    return out;
}

}  // namespace chorus
