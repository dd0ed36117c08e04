#include "engine/graph.hpp"

#include <cmath>
#include <stdexcept>

namespace chorus {

constexpr size_t MOST_NODES = 1 << 19;
constexpr int KV_PADDING = 32;         // slots; the view of a cache ends at a multiple
constexpr int MAX_QUERIES = 63;        // 64 rows and more take another path through flash attention, with other roundings
constexpr float MASKED = -INFINITY;

// More tensors than the stretch can need: each session has its own attention, in pieces where its rows are many.
static size_t most_nodes(const Pass & pass, const std::vector<Op> & ops) {
    size_t layers = 0, attention = 64;
    for (const Op & op : ops) layers += 1 + op.layers.size() + size_t(op.to - op.from);
    for (const auto & part : pass.parts) attention += 16 + 10 * size_t(part.rows / MAX_QUERIES + 1);
    const size_t nodes = 64 + layers * attention;
    if (nodes > MOST_NODES) throw std::invalid_argument("ops: expected less work in one stretch; it takes up to " + std::to_string(nodes) + " steps of at most " + std::to_string(MOST_NODES));
    return nodes;
}

Graph::Graph(Weights & weights, const Options & options, Pass & pass, const std::vector<Op> & ops, std::vector<uint8_t> & memory)
    : weights_(weights), options_(options), pass_(pass) {
    const size_t nodes = most_nodes(pass, ops);
    const size_t needed = ggml_tensor_overhead() * nodes + ggml_graph_overhead_custom(nodes, false);
    if (memory.size() < needed) memory.resize(needed);
    owner_.reset(ggml_init({memory.size(), memory.data(), true}));
    ctx_ = owner_.get();
    graph = ggml_new_graph_custom(ctx_, nodes, false);
    if (pass.has_h) h = pass.h;
    masks_.resize(pass.parts.size());
    mask_values_.resize(pass.parts.size());
}

void Graph::record(Op & op) {
    switch (op.kind) {
        case Op::Kind::embed: h = embed(); break;
        case Op::Kind::receive: h = input(GGML_TYPE_F32, options_.shape.width, pass_.rows(), op.hidden.data()); break;
        case Op::Kind::layers:
            for (int i = op.from; i < op.to; ++i) {
                h = ggml_add(ctx_, h, attention(i, h));
                h = ggml_add(ctx_, h, mlp(i, h));
            }
            break;
        case Op::Kind::attend:
            for (const int i : op.layers) {
                attended.push_back({i, copied(attention(i, h)), op.returned});
            }
            ggml_build_forward_expand(graph, ggml_cpy(ctx_, h, pass_.first));
            break;
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

void Graph::finish() {
    if (h != nullptr && h != pass_.h) ggml_build_forward_expand(graph, ggml_cpy(ctx_, h, pass_.h));
}

void Graph::fill() {
    for (const auto & [tensor, data] : inputs_) ggml_backend_tensor_set(tensor, data, 0, ggml_nbytes(tensor));
}

ggml_tensor * Graph::input(ggml_type type, int64_t ne0, int64_t ne1, const void * data) {
    ggml_tensor * tensor = ggml_new_tensor_2d(ctx_, type, ne0, ne1);
    ggml_set_input(tensor);
    ggml_build_forward_expand(graph, tensor);
    inputs_.emplace_back(tensor, data);
    return tensor;
}

ggml_tensor * Graph::embed() {
    return ggml_get_rows(ctx_, weights_.embedding, input(GGML_TYPE_I32, pass_.rows(), 1, pass_.tokens.data()));  // [width, rows]
}

// The attention of one layer, without its residual: Wo softmax(q k^T / sqrt(head_dim) + mask) v. The fuzzy schedule adds it
// later, to a hidden state that does not exist yet.
ggml_tensor * Graph::attention(int layer, ggml_tensor * x0) {
    const Layer & w = weights_.layers[size_t(layer)];
    const Shape & s = options_.shape;
    const int64_t rows = pass_.rows();
    ggml_tensor * x = norm(x0, w.attn_norm);  // [width, rows]
    ggml_tensor * q = ggml_reshape_3d(ctx_, linear(w.q, w.q_bias, x), s.head_dim, s.heads, rows);
    ggml_tensor * k = ggml_reshape_3d(ctx_, linear(w.k, w.k_bias, x), s.head_dim, s.kv_heads, rows);
    ggml_tensor * v = linear(w.v, w.v_bias, x);  // [head_dim * kv_heads, rows]
    if (w.q_norm != nullptr) q = norm(q, w.q_norm);
    if (w.k_norm != nullptr) k = norm(k, w.k_norm);
    q = rope(q);
    k = ggml_reshape_2d(ctx_, rope(k), int64_t(s.head_dim) * s.kv_heads, rows);
    if (LayerAttention::possible(pass_.parts[0].session->keys[size_t(layer)], s.head_dim)) {
        attentions_.push_back(std::make_unique<LayerAttention>(pass_, layer, s));
        return linear(w.o, w.o_bias, attentions_.back()->over(ctx_, q, k, v));
    }
    std::vector<ggml_tensor *> all;  // [head_dim * heads, rows], of each session
    for (size_t p = 0; p < pass_.parts.size(); ++p) all.push_back(attend(pass_.parts[p], p, q, k, v, layer));
    return linear(w.o, w.o_bias, joined(std::move(all)));
}

// Rows of several tensors in one. Joined in pairs, a row is copied as often as the number of tensors can be halved; one after
// the other, as often as tensors come after its own.
ggml_tensor * Graph::joined(std::vector<ggml_tensor *> parts) {
    while (parts.size() > 1) {
        std::vector<ggml_tensor *> pairs;
        for (size_t i = 0; i + 1 < parts.size(); i += 2) pairs.push_back(ggml_concat(ctx_, parts[i], parts[i + 1], 1));
        if (parts.size() % 2 == 1) pairs.push_back(parts.back());
        parts = std::move(pairs);
    }
    return parts[0];
}

// One session's rows: their K and V are written first and read back with the rest; the mask decides what a row sees.
ggml_tensor * Graph::attend(const Pass::Part & part, size_t index, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, int layer) {
    const Shape & s = options_.shape;
    const Session & session = *part.session;
    const auto write = [&](ggml_tensor * cache, ggml_tensor * x) {
        ggml_tensor * rows = ggml_view_2d(ctx_, x, x->ne[0], part.rows, x->nb[1], size_t(part.first_row) * x->nb[1]);
        ggml_tensor * slots = ggml_view_2d(ctx_, cache, cache->ne[0], part.rows, cache->nb[1], size_t(part.slot) * cache->nb[1]);
        ggml_build_forward_expand(graph, ggml_cpy(ctx_, rows, slots));
    };
    const auto read = [&](ggml_tensor * cache) {  // [head_dim, slots, kv_heads]
        const int64_t slots = (part.slot + part.rows + KV_PADDING - 1) / KV_PADDING * KV_PADDING;
        return ggml_view_3d(ctx_, cache, s.head_dim, slots, s.kv_heads, cache->nb[1], ggml_row_size(cache->type, s.head_dim), 0);
    };
    write(session.keys[size_t(layer)], k);
    write(session.values[size_t(layer)], v);
    ggml_tensor * keys = read(session.keys[size_t(layer)]);
    ggml_tensor * values = read(session.values[size_t(layer)]);
    ggml_tensor * mask = mask_of(index);  // [slots, max(rows, 2)]
    const float scale = 1.0f / std::sqrt(float(s.head_dim));
    const int pieces = options_.deterministic ? (part.rows + MAX_QUERIES - 1) / MAX_QUERIES : 1;
    std::vector<ggml_tensor *> all;
    for (int piece = 0; piece < pieces; ++piece) {
        const int from = part.rows * piece / pieces, rows = part.rows * (piece + 1) / pieces - from;
        ggml_tensor * queries = ggml_view_3d(ctx_, q, s.head_dim, s.heads, rows, q->nb[1], q->nb[2], size_t(part.first_row + from) * q->nb[2]);
        ggml_tensor * seen = ggml_view_2d(ctx_, mask, mask->ne[0], rows, mask->nb[1], size_t(from) * mask->nb[1]);
        ggml_tensor * a = options_.deterministic && rows == 1 ? attend_alone(queries, keys, values, mask, scale)
                                                             : ggml_flash_attn_ext(ctx_, ggml_permute(ctx_, queries, 0, 2, 1, 3), keys, values, seen, scale, 0.0f, 0.0f);
        a = ggml_view_2d(ctx_, a, int64_t(s.head_dim) * s.heads, rows, int64_t(s.head_dim) * s.heads * sizeof(float), 0);  // [head_dim * heads, rows]
        all.push_back(a);
    }
    return joined(std::move(all));
}

// One query row in one sequence would have its slots split over the threads, and be added up in another order than in a batch.
// As one sequence a KV head it is not: the same numbers, in the same place of the result.
ggml_tensor * Graph::attend_alone(ggml_tensor * query, ggml_tensor * keys, ggml_tensor * values, ggml_tensor * mask, float scale) {
    const Shape & s = options_.shape;
    const auto by_head = [&](ggml_tensor * cache) {  // [head_dim, slots, 1, kv_heads]
        return ggml_view_4d(ctx_, cache, cache->ne[0], cache->ne[1], 1, cache->ne[2], cache->nb[1], cache->nb[2], cache->nb[2], 0);
    };
    if (s.kv_heads > 1) {
        const int64_t group = s.heads / s.kv_heads;
        const size_t head = query->nb[1];
        query = ggml_view_4d(ctx_, query, s.head_dim, 1, group, s.kv_heads, head, head, size_t(group) * head, 0);
        return ggml_flash_attn_ext(ctx_, query, by_head(keys), by_head(values), mask, scale, 0.0f, 0.0f);  // [head_dim, group, 1, kv_heads]
    }
    query = ggml_repeat_4d(ctx_, ggml_cont(ctx_, query), s.head_dim, s.heads, 2, 1);  // a twin beside it
    return ggml_flash_attn_ext(ctx_, ggml_permute(ctx_, query, 0, 2, 1, 3), keys, values, mask, scale, 0.0f, 0.0f);
}

ggml_tensor * Graph::mask_of(size_t index) {
    if (masks_[index] != nullptr) return masks_[index];
    const Pass::Part & part = pass_.parts[index];
    const int slots = (part.slot + part.rows + KV_PADDING - 1) / KV_PADDING * KV_PADDING;
    const int rows = part.rows == 1 ? 2 : part.rows;
    const ggml_fp16_t hidden = ggml_fp32_to_fp16(MASKED), seen = ggml_fp32_to_fp16(0.0f);
    auto & values = mask_values_[index];
    values.assign(size_t(slots) * size_t(rows), hidden);
    for (int row = 0; row < rows; ++row) {
        ggml_fp16_t * at = values.data() + size_t(row) * size_t(slots);
        for (int slot = 0; slot < part.session->committed; ++slot) at[slot] = seen;
        for (const int slot : part.ancestors[size_t(std::min(row, part.rows - 1))]) at[slot] = seen;
    }
    return masks_[index] = input(GGML_TYPE_F16, slots, rows, values.data());
}

ggml_tensor * Graph::mlp(int layer, ggml_tensor * x0) {
    const Layer & w = weights_.layers[size_t(layer)];
    ggml_tensor * x = norm(x0, w.ffn_norm);
    return linear(w.down, nullptr, ggml_swiglu_split(ctx_, linear(w.gate, nullptr, x), linear(w.up, nullptr, x)));
}

// h += A_i; h += MLP_i(h), in the order of the layers; or, as an ablation, whole layers in parallel: h += A_i + MLP_i(first + A_i).
ggml_tensor * Graph::mlps(Op & op, ggml_tensor * x) {
    for (size_t j = 0; j < op.layers.size(); ++j) {
        ggml_tensor * a = attended_of(op, j);
        if (op.whole) {
            x = ggml_add(ctx_, ggml_add(ctx_, x, a), mlp(op.layers[j], ggml_add(ctx_, pass_.first, a)));
        } else {
            x = ggml_add(ctx_, x, a);
            x = ggml_add(ctx_, x, mlp(op.layers[j], x));
        }
    }
    return x;
}

ggml_tensor * Graph::attended_of(Op & op, size_t index) {
    if (op.attended[index]) return input(GGML_TYPE_F32, options_.shape.width, pass_.rows(), op.attended[index]->data());
    for (auto at = attended.rbegin(); at != attended.rend(); ++at) {
        if (at->layer == op.layers[index]) return at->a;
    }
    return pass_.kept.at(op.layers[index]);
}

ggml_tensor * Graph::logits(ggml_tensor * x, const std::vector<int32_t> & rows) {
    bool all = int(rows.size()) == pass_.rows();
    for (size_t i = 0; all && i < rows.size(); ++i) all = rows[i] == int(i);
    if (!all) x = ggml_get_rows(ctx_, x, input(GGML_TYPE_I32, int64_t(rows.size()), 1, rows.data()));
    ggml_tensor * out = linear(weights_.output, nullptr, norm(x, weights_.output_norm));
    ggml_set_output(out);
    ggml_build_forward_expand(graph, out);
    return out;
}

ggml_tensor * Graph::quantised(ggml_tensor * x, Activations as) {
    ggml_tensor *& found = quantised_[{x, as}];
    if (found == nullptr) found = PackedMatrix::quantised(ctx_, x, as);
    return found;
}

// Weights that are not quantised take a path of their own for one row, with other roundings: such a row gets a twin.
ggml_tensor * Graph::linear(ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x) {
    const bool lonely = options_.deterministic && x->ne[1] == 1 && !ggml_is_quantized(weight->type);
    ggml_tensor * y;
    if (PackedMatrix * packed = weights_.packed(weight)) {
        y = packed->product(ctx_, quantised(x, packed->activations()));
    } else if (lonely) {
        y = ggml_mul_mat(ctx_, weight, ggml_repeat_4d(ctx_, x, x->ne[0], 2, 1, 1));
        y = ggml_view_2d(ctx_, y, y->ne[0], 1, y->nb[1], 0);
    } else {
        y = ggml_mul_mat(ctx_, weight, x);
    }
    return bias == nullptr ? y : ggml_add(ctx_, y, bias);
}

ggml_tensor * Graph::norm(ggml_tensor * x, ggml_tensor * weight) { return ggml_mul(ctx_, ggml_rms_norm(ctx_, x, options_.shape.norm_eps), weight); }

ggml_tensor * Graph::rope(ggml_tensor * x) {
    const Shape & s = options_.shape;
    if (positions_ == nullptr) positions_ = input(GGML_TYPE_I32, pass_.rows(), 1, pass_.positions.data());
    return ggml_rope_ext(ctx_, x, positions_, weights_.rope_factors, s.rope_dim, s.rope_neighbours ? GGML_ROPE_TYPE_NORMAL : GGML_ROPE_TYPE_NEOX, s.context,
                         s.rope_theta, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f);
}

}  // namespace chorus
