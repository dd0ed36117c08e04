#include "engine/flash_attention.hpp"

#include <algorithm>
#include <cmath>

#include "engine/blocks.hpp"

namespace chorus {

namespace {

constexpr int KV_PADDING = 32;   // slots; the view of a cache ends at a multiple
constexpr int MAX_QUERIES = 63;  // 64 rows and more take another path through flash attention, with other roundings

int64_t padded(const Pass::Part & part) { return (part.slot + part.rows + KV_PADDING - 1) / KV_PADDING * KV_PADDING; }

// For one query row in one sequence ggml splits the slots over the threads, and adds them up in another order than in a batch.
// With one sequence per KV head it does not. The result has the same layout.
ggml_tensor * attend_alone(Blocks & b, ggml_tensor * query, ggml_tensor * keys, ggml_tensor * values, ggml_tensor * mask, float scale) {
    const Shape & s = b.options.shape;
    const auto by_head = [&](ggml_tensor * cache) {  // [head_dim, slots, 1, kv_heads]
        return ggml_view_4d(b.ctx, cache, cache->ne[0], cache->ne[1], 1, cache->ne[2], cache->nb[1], cache->nb[2], cache->nb[2], 0);
    };
    if (s.kv_heads > 1) {
        const int64_t group = s.heads / s.kv_heads;
        const size_t head = query->nb[1];
        query = ggml_view_4d(b.ctx, query, s.head_dim, 1, group, s.kv_heads, head, head, size_t(group) * head, 0);
        return ggml_flash_attn_ext(b.ctx, query, by_head(keys), by_head(values), mask, scale, 0.0f, 0.0f);  // [head_dim, group, 1, kv_heads]
    }
    query = ggml_repeat_4d(b.ctx, ggml_cont(b.ctx, query), s.head_dim, s.heads, 2, 1);  // a twin beside it
    return ggml_flash_attn_ext(b.ctx, ggml_permute(b.ctx, query, 0, 2, 1, 3), keys, values, mask, scale, 0.0f, 0.0f);
}

}  // namespace

size_t FlashAttention::most_nodes(int rows) { return 16 + 10 * size_t(rows / MAX_QUERIES + 1); }

ggml_tensor * FlashAttention::over(Blocks & b, int layer, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v) {
    masks_.resize(b.pass.parts.size());
    mask_values_.resize(b.pass.parts.size());
    std::vector<ggml_tensor *> all;  // [head_dim * heads, rows], of each session
    for (size_t part = 0; part < b.pass.parts.size(); ++part) all.push_back(of_part(b, part, layer, q, k, v));
    return b.joined(std::move(all));
}

// One session's rows: their K and V are written first and read back with the rest.
ggml_tensor * FlashAttention::of_part(Blocks & b, size_t index, int layer, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v) {
    const Shape & s = b.options.shape;
    const Pass::Part & part = b.pass.parts[index];
    ggml_tensor * const keys_kept = part.session->keys[size_t(layer)], * const values_kept = part.session->values[size_t(layer)];
    const auto write = [&](ggml_tensor * cache, ggml_tensor * x) {
        ggml_tensor * rows = ggml_view_2d(b.ctx, x, x->ne[0], part.rows, x->nb[1], size_t(part.first_row) * x->nb[1]);
        ggml_tensor * slots = ggml_view_2d(b.ctx, cache, cache->ne[0], part.rows, cache->nb[1], size_t(part.slot) * cache->nb[1]);
        ggml_build_forward_expand(b.graph, ggml_cpy(b.ctx, rows, slots));
    };
    const auto read = [&](ggml_tensor * cache) {  // [head_dim, slots, kv_heads]
        return ggml_view_3d(b.ctx, cache, s.head_dim, padded(part), s.kv_heads, cache->nb[1], ggml_row_size(cache->type, s.head_dim), 0);
    };
    write(keys_kept, k);
    write(values_kept, v);
    ggml_tensor * keys = read(keys_kept);
    ggml_tensor * values = read(values_kept);
    ggml_tensor * mask = mask_of(b, index);
    const float scale = 1.0f / std::sqrt(float(s.head_dim));
    const bool deterministic = b.options.deterministic;
    const int pieces = deterministic ? (part.rows + MAX_QUERIES - 1) / MAX_QUERIES : 1;
    std::vector<ggml_tensor *> all;
    for (int piece = 0; piece < pieces; ++piece) {
        const int from = part.rows * piece / pieces, rows = part.rows * (piece + 1) / pieces - from;
        ggml_tensor * queries = ggml_view_3d(b.ctx, q, s.head_dim, s.heads, rows, q->nb[1], q->nb[2], size_t(part.first_row + from) * q->nb[2]);
        ggml_tensor * seen = ggml_view_2d(b.ctx, mask, mask->ne[0], rows, mask->nb[1], size_t(from) * mask->nb[1]);
        ggml_tensor * a = deterministic && rows == 1 ? attend_alone(b, queries, keys, values, mask, scale)
                                                     : ggml_flash_attn_ext(b.ctx, ggml_permute(b.ctx, queries, 0, 2, 1, 3), keys, values, seen, scale, 0.0f, 0.0f);
        all.push_back(ggml_view_2d(b.ctx, a, int64_t(s.head_dim) * s.heads, rows, int64_t(s.head_dim) * s.heads * sizeof(float), 0));  // [head_dim * heads, rows]
    }
    return b.joined(std::move(all));
}

// [slots, max(rows, 2)]: the committed slots and a row's ancestors are seen.
ggml_tensor * FlashAttention::mask_of(Blocks & b, size_t index) {
    if (masks_[index] != nullptr) return masks_[index];
    const Pass::Part & part = b.pass.parts[index];
    const int64_t slots = padded(part);
    const int rows = part.rows == 1 ? 2 : part.rows;
    const ggml_fp16_t hidden = ggml_fp32_to_fp16(-INFINITY), seen = ggml_fp32_to_fp16(0.0f);
    auto & values = mask_values_[index];
    values.assign(size_t(slots) * size_t(rows), hidden);
    for (int row = 0; row < rows; ++row) {
        ggml_fp16_t * at = values.data() + size_t(row) * size_t(slots);
        for (int slot = 0; slot < part.session->committed; ++slot) at[slot] = seen;
        for (const int slot : part.ancestors[size_t(std::min(row, part.rows - 1))]) at[slot] = seen;
    }
    return masks_[index] = b.input(GGML_TYPE_F16, slots, rows, values.data());
}

}  // namespace chorus
