#include "engine/blocks.hpp"

#include "weights/weights.hpp"

namespace chorus {

ggml_tensor * Blocks::input(ggml_type type, int64_t ne0, int64_t ne1, const void * data) {
    ggml_tensor * tensor = ggml_new_tensor_2d(ctx, type, ne0, ne1);
    ggml_set_input(tensor);
    ggml_build_forward_expand(graph, tensor);
    inputs_.emplace_back(tensor, data);
    return tensor;
}

void Blocks::fill() {
    for (const auto & [tensor, data] : inputs_) ggml_backend_tensor_set(tensor, data, 0, ggml_nbytes(tensor));
}

ggml_tensor * Blocks::quantised(ggml_tensor * x, Activations as) {
    if (as == Activations::floats) return x;
    ggml_tensor *& found = quantised_[{x, as}];
    if (found == nullptr) found = PackedMatrix::quantised(ctx, x, as);
    return found;
}

// Weights that are not quantised take a path of their own for one row, with other roundings: such a row gets a twin.
ggml_tensor * Blocks::linear(const Linear & linear, ggml_tensor * x) {
    const bool lonely = options.deterministic && x->ne[1] == 1 && !ggml_is_quantized(linear.weight->type);
    ggml_tensor * y;
    if (PackedMatrix * packed = weights_.packed(linear.weight)) {
        y = packed->product(ctx, quantised(x, packed->activations()));
    } else if (lonely) {
        y = ggml_mul_mat(ctx, linear.weight, ggml_repeat_4d(ctx, x, x->ne[0], 2, 1, 1));
        y = ggml_view_2d(ctx, y, y->ne[0], 1, y->nb[1], 0);
    } else {
        y = ggml_mul_mat(ctx, linear.weight, x);
    }
    return linear.bias == nullptr ? y : ggml_add(ctx, y, linear.bias);
}

ggml_tensor * Blocks::norm(ggml_tensor * x, ggml_tensor * weight) { return ggml_mul(ctx, ggml_rms_norm(ctx, x, options.shape.norm_eps), weight); }

ggml_tensor * Blocks::heads(ggml_tensor * x) { return ggml_reshape_3d(ctx, x, options.shape.head_dim, x->ne[0] / options.shape.head_dim, x->ne[1]); }

ggml_tensor * Blocks::rope(ggml_tensor * x) {
    const Shape & s = options.shape;
    if (positions_ == nullptr) positions_ = input(GGML_TYPE_I32, pass.rows(), 1, pass.positions.data());
    return ggml_rope_ext(ctx, x, positions_, weights_.rope_factors, s.rope_dim, s.rope_neighbours ? GGML_ROPE_TYPE_NORMAL : GGML_ROPE_TYPE_NEOX, s.context,
                         s.rope_theta, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f);
}

ggml_tensor * Blocks::attend(int layer, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v) {
    const Shape & s = options.shape;
    k = ggml_reshape_2d(ctx, k, int64_t(s.head_dim) * s.kv_heads, pass.rows());
    if (!LayerAttention::possible(pass.parts[0].session->keys[size_t(layer)], s.head_dim)) return flash_.over(*this, layer, q, k, v);
    attentions_.push_back(std::make_unique<LayerAttention>(pass, layer, s));
    return attentions_.back()->over(ctx, q, k, v);
}

// Joined in pairs, a row is copied as often as the number of tensors can be halved; one after the other, as often as tensors
// come after its own.
ggml_tensor * Blocks::joined(std::vector<ggml_tensor *> parts) {
    while (parts.size() > 1) {
        std::vector<ggml_tensor *> pairs;
        for (size_t i = 0; i + 1 < parts.size(); i += 2) pairs.push_back(ggml_concat(ctx, parts[i], parts[i + 1], 1));
        if (parts.size() % 2 == 1) pairs.push_back(parts.back());
        parts = std::move(pairs);
    }
    return parts[0];
}

}  // namespace chorus
