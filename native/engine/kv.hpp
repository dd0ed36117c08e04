// The KV of sessions: one row per slot, for each layer whose attention the shard has.
#pragma once
#include "engine/options.hpp"
#include "engine/session.hpp"

namespace chorus {

class Kv {
  public:
    Kv(const Options & options, ggml_backend_t backend) : options_(options), backend_(backend) {}

    uint64_t bytes_per_token() const;

    // Makes room for `slots` slots and keeps what is there.
    void reserve(Session & session, int slots) const;

    // Appends the slots, which are a path, to the committed ones, and drops the rest.
    void commit(Session & session, const std::vector<int32_t> & slots) const;

    // A KV delta: two int32, from and to; the tokens of those positions; then for each layer its keys and its values.
    std::vector<uint8_t> exported(const Session & session, int from, int to) const;
    void import(Session & session, const std::vector<uint8_t> & delta) const;

  private:
    int64_t width() const { return int64_t(options_.shape.head_dim) * options_.shape.kv_heads; }
    size_t bytes_of_row() const { return ggml_row_size(options_.kv_type, width()); }

    const Options & options_;
    ggml_backend_t backend_;
};

}  // namespace chorus
