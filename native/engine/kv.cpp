#include "engine/kv.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace chorus {

namespace {

constexpr int CHUNK = 256;  // slots; a cache grows by doubling, rounded up to this

// The keys and the values of each layer that is held, in the order of a delta.
template <typename Call> void for_caches(const Session & s, const Call & call) {
    for (size_t i = 0; i < s.keys.size(); ++i) {
        if (s.keys[i] == nullptr) continue;
        call(s.keys[i]);
        call(s.values[i]);
    }
}

}  // namespace

uint64_t Kv::bytes_per_token() const {
    const auto & held = options_.shard.attention;
    return 2 * uint64_t(std::count(held.begin(), held.end(), true)) * bytes_of_row();
}

void Kv::reserve(Session & s, int slots) const {
    if (slots <= s.capacity) return;
    const int wanted = std::max(slots, s.capacity * 2);
    const int capacity = (wanted + CHUNK - 1) / CHUNK * CHUNK;
    const size_t layers = size_t(options_.shape.layers);
    ggml_context_ptr ctx(ggml_init({ggml_tensor_overhead() * (2 * layers + 1), nullptr, true}));
    std::vector<ggml_tensor *> keys(layers, nullptr), values(layers, nullptr);
    for (size_t i = 0; i < layers; ++i) {
        if (!options_.shard.attention[i]) continue;
        keys[i] = ggml_new_tensor_2d(ctx.get(), options_.kv_type, width(), capacity);
        values[i] = ggml_new_tensor_2d(ctx.get(), options_.kv_type, width(), capacity);
    }
    ggml_backend_buffer_ptr buffer;
    if (bytes_per_token() > 0) {
        buffer.reset(ggml_backend_alloc_ctx_tensors(ctx.get(), backend_));
        if (!buffer) throw std::runtime_error("not enough memory for the KV of " + std::to_string(capacity) + " tokens");
        ggml_backend_buffer_clear(buffer.get(), 0);  // masked slots are still multiplied on some devices: no NaN there
        std::vector<uint8_t> copy(bytes_of_row() * size_t(s.used));
        for (size_t i = 0; i < layers && s.used > 0; ++i) {
            if (keys[i] == nullptr) continue;
            for (auto [from, to] : {std::pair{s.keys[i], keys[i]}, std::pair{s.values[i], values[i]}}) {
                ggml_backend_tensor_get(from, copy.data(), 0, copy.size());
                ggml_backend_tensor_set(to, copy.data(), 0, copy.size());
            }
        }
    }
    s.keys = std::move(keys);
    s.values = std::move(values);
    s.buffer = std::move(buffer);
    s.ctx = std::move(ctx);
    s.capacity = capacity;
}

void Kv::commit(Session & s, const std::vector<int32_t> & slots) const {
    std::vector<uint8_t> row(bytes_of_row());
    for (const int32_t from : slots) {
        const int to = s.committed++;
        if (from == to) continue;
        for_caches(s, [&](ggml_tensor * cache) {
            ggml_backend_tensor_get(cache, row.data(), row.size() * size_t(from), row.size());
            ggml_backend_tensor_set(cache, row.data(), row.size() * size_t(to), row.size());
        });
        s.tokens[size_t(to)] = s.tokens[size_t(from)];
        s.positions[size_t(to)] = s.positions[size_t(from)];
        s.parents[size_t(to)] = to - 1;
    }
    s.used = s.committed;
}

std::vector<uint8_t> Kv::exported(const Session & s, int from, int to) const {
    const size_t row = bytes_of_row(), count = size_t(to - from);
    const int32_t header[2] = {from, to};
    std::vector<uint8_t> bytes(sizeof header + count * (sizeof(int32_t) + bytes_per_token()));
    uint8_t * at = bytes.data();
    std::memcpy(at, header, sizeof header), at += sizeof header;
    std::memcpy(at, s.tokens.data() + from, count * sizeof(int32_t)), at += count * sizeof(int32_t);
    for_caches(s, [&](ggml_tensor * cache) {
        ggml_backend_tensor_get(cache, at, row * size_t(from), row * count);
        at += row * count;
    });
    return bytes;
}

void Kv::import(Session & s, const std::vector<uint8_t> & bytes) const {
    int32_t header[2];
    if (bytes.size() < sizeof header) throw std::invalid_argument("bytes is too short for a KV delta");
    std::memcpy(header, bytes.data(), sizeof header);
    const int from = header[0], to = header[1];
    if (from != s.committed) throw std::invalid_argument("bytes begins at position " + std::to_string(from) + "; expected " + std::to_string(s.committed));
    if (to < from || to > options_.shape.context) throw std::invalid_argument("bytes ends at position " + std::to_string(to));
    const size_t row = bytes_of_row(), count = size_t(to - from);
    const size_t expected = sizeof header + count * (sizeof(int32_t) + bytes_per_token());
    if (bytes.size() != expected) throw std::invalid_argument("bytes has " + std::to_string(bytes.size()) + " bytes; expected " + std::to_string(expected));
    s.used = s.committed;
    reserve(s, to);
    for (auto * list : {&s.tokens, &s.positions, &s.parents}) list->resize(size_t(to));
    const uint8_t * at = bytes.data() + sizeof header;
    std::memcpy(s.tokens.data() + from, at, count * sizeof(int32_t)), at += count * sizeof(int32_t);
    for (int i = from; i < to; ++i) s.positions[size_t(i)] = i, s.parents[size_t(i)] = i - 1;
    for_caches(s, [&](ggml_tensor * cache) {
        ggml_backend_tensor_set(cache, at, row * size_t(from), row * count);
        at += row * count;
    });
    s.committed = s.used = to;
}

}  // namespace chorus
