#include "engine/attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/kernels.hpp"

namespace chorus {

bool LayerAttention::possible(const ggml_tensor * cache, int head_dim) {
    const AttentionKernels * own = kernels().attention;
    return own != nullptr && own->takes(head_dim) && (cache->type == GGML_TYPE_F16 || cache->type == GGML_TYPE_F32) && ggml_backend_buffer_is_host(cache->buffer);
}

LayerAttention::LayerAttention(const Pass & pass, int layer, const Shape & shape) : pass_(pass), layer_(size_t(layer)), shape_(shape) {}

ggml_tensor * LayerAttention::over(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v) {
    ggml_tensor * new_rows[] = {k, v};
    ggml_tensor * kept = ggml_custom_4d(ctx, GGML_TYPE_I8, 1, 1, 1, 1, new_rows, 2, keep, GGML_N_TASKS_MAX, this);
    ggml_tensor * queries[] = {q, kept};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, int64_t(shape_.head_dim) * shape_.heads, pass_.rows(), 1, 1, queries, 2, attend, GGML_N_TASKS_MAX, this);
}

// The rows' K and V in their sessions' caches.
void LayerAttention::keep(ggml_tensor * kept, int thread, int threads, void * self) {
    const auto & own = *static_cast<const LayerAttention *>(self);
    const int width = own.shape_.head_dim * own.shape_.kv_heads;
    const auto write = [&](const ggml_tensor * rows, int row, ggml_tensor * cache, int slot) {
        const auto * from = reinterpret_cast<const float *>(static_cast<const char *>(rows->data) + size_t(row) * rows->nb[1]);
        auto * to = static_cast<char *>(cache->data) + size_t(slot) * cache->nb[1];
        if (cache->type == GGML_TYPE_F16) {
            kernels().attention->to_halves(from, width, reinterpret_cast<uint16_t *>(to));
        } else {
            std::memcpy(to, from, size_t(width) * sizeof(float));
        }
    };
    for (const auto & part : own.pass_.parts) {
        for (int i = 0; i < part.rows; ++i) {
            const int row = part.first_row + i;
            if (row % threads != thread) continue;
            write(kept->src[0], row, part.session->keys[own.layer_], part.slot + i);
            write(kept->src[1], row, part.session->values[own.layer_], part.slot + i);
        }
    }
}

// A thread takes every n-th (row, KV head) pair: rows that follow each other see about as much.
void LayerAttention::attend(ggml_tensor * y, int thread, int threads, void * self) {
    const auto & own = *static_cast<const LayerAttention *>(self);
    const ggml_tensor * q = y->src[0];
    int unit = 0;
    for (const auto & part : own.pass_.parts) {
        for (int i = 0; i < part.rows; ++i) {
            const size_t row = size_t(part.first_row + i);
            const auto * queries = reinterpret_cast<const float *>(static_cast<const char *>(q->data) + row * q->nb[2]);
            auto * to = reinterpret_cast<float *>(static_cast<char *>(y->data) + row * y->nb[1]);
            for (int head = 0; head < own.shape_.kv_heads; ++head) {
                if (unit++ % threads == thread) own.attend_row(part, i, head, queries, to);
            }
        }
    }
}

void LayerAttention::attend_row(const Pass::Part & part, int row, int kv_head, const float * q, float * y) const {
    thread_local std::vector<float> scores;
    thread_local std::vector<int32_t> more;
    const Session & session = *part.session;
    const auto & ancestors = part.ancestors[size_t(row)];  // from the row itself upwards
    more.assign(ancestors.rbegin(), ancestors.rend());
    const int heads = shape_.heads / shape_.kv_heads;
    const size_t slots = size_t(session.committed) + more.size(), first = size_t(kv_head) * size_t(shape_.head_dim);
    const ggml_tensor * keys = session.keys[layer_], * values = session.values[layer_];
    scores.resize(std::max(scores.size(), size_t(heads) * (slots + 16)));
    const auto of_head = [&](const ggml_tensor * cache) { return static_cast<const char *>(cache->data) + first * ggml_type_size(cache->type); };
    const Seen seen{of_head(keys), of_head(values), keys->type == GGML_TYPE_F16, size_t(shape_.head_dim) * size_t(shape_.kv_heads), session.committed, more.data(), int(more.size())};
    const size_t at = size_t(kv_head * heads) * size_t(shape_.head_dim);
    kernels().attention->attend(q + at, heads, shape_.head_dim, 1.0f / std::sqrt(float(shape_.head_dim)), seen, scores.data(), y + at);
}

}  // namespace chorus
