// A rank's engine: a shard of a model, the KV of its sessions, and passes over batches of their tokens.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "ggml-cpu.h"
#include "weights/weights.hpp"
#include "sampler/sampler.hpp"

namespace chorus {

struct Options {
    Shape shape;
    std::vector<TensorSource> tensors;
    Shard shard;
    std::string device;
    int threads;
    bool deterministic;
    ggml_type kv_type;
};

// One session's KV and the tree beyond its committed slots.
struct Session {
    Sampling sampling;
    int committed = 0, used = 0, capacity = 0;
    std::vector<int32_t> tokens, positions, parents;  // by slot
    std::vector<ggml_tensor *> keys, values;          // by layer, [head_dim * kv_heads, capacity]; null where not held
    ggml_context_ptr ctx;
    ggml_backend_buffer_ptr buffer;
};

struct Segment {
    std::string session;
    std::vector<int32_t> tokens, parents;
};

struct Op {
    enum class Kind { embed, receive, layers, attend, mlps, emit, head } kind;
    std::vector<uint8_t> hidden;                               // receive
    int from = 0, to = 0;                                      // layers
    std::vector<int> layers;                                   // attend, mlps
    bool returned = true;                                      // attend: whether the host gets A too
    std::vector<std::optional<std::vector<uint8_t>>> attended;  // mlps
    bool whole = false;                                        // mlps
    std::vector<int32_t> rows;                                 // head
    enum class Want { tokens, candidates, logits } want = Want::tokens;
    int k = 0;    // candidates
    int top = 0;  // tokens: alternatives of each row
    std::vector<int32_t> given;  // tokens: one a row, in place of the sampler's; or none
};

struct StretchResult {
    std::vector<std::vector<uint8_t>> hiddens, attended;
    bool has_tokens = false, has_log_probs = false, has_logits = false;
    std::vector<int32_t> tokens;
    std::vector<float> log_probs, logits;
    bool has_top = false;
    std::vector<int32_t> top_tokens;  // [rows, top]
    std::vector<float> top_log_probs;
    double micros = 0;
};

struct Aborted : std::runtime_error {
    Aborted() : std::runtime_error("the pass was aborted") {}
};

// A pass over a batch of rows. h and the attentions that `attend` kept stay on the device until it ends.
struct Pass {
    struct Part {
        std::shared_ptr<Session> session;
        int first_row, rows, slot;  // slot of the first row
        std::vector<std::vector<int>> ancestors;
    };
    std::vector<Part> parts;
    std::vector<int32_t> tokens, positions;
    ggml_context_ptr ctx;
    ggml_backend_buffer_ptr buffer;
    ggml_tensor * h = nullptr;      // [width, rows]
    ggml_tensor * first = nullptr;  // the h that the last `attend` read
    bool has_h = false, has_first = false;
    std::map<int, std::pair<ggml_context_ptr, ggml_backend_buffer_ptr>> kept_memory;
    std::map<int, ggml_tensor *> kept;  // A_i by layer
    bool ended = false;
    int rows() const { return int(tokens.size()); }
};

class Engine {
    Options options_;

  public:
    Engine(Options options, const std::function<void(double)> & progress);
    ~Engine();
    Engine(const Engine &) = delete;

    const Options & options = options_;
    static constexpr int max_rows = 512;

    // From now on the engine is one of a part of its shard: a standby takes one rank's place. There is no session.
    void narrow(const Shard & shard) { options_.shard = shard; }

    uint64_t bytes_of_weights() const { return weights_->bytes; }
    uint64_t bytes_of_kv_per_token() const;
    uint64_t bytes_of_kv() const;

    std::map<std::string, std::shared_ptr<Session>> sessions;
    std::shared_ptr<Session> open(const Sampling & sampling);

    // On the compute thread only:
    std::shared_ptr<Pass> begin(const std::vector<Segment> & segments);
    StretchResult run(Pass & pass, std::vector<Op> & ops);
    void commit(Session & session, const std::vector<int32_t> & slots);
    std::vector<uint8_t> kv_export(const Session & session, int from, int to);
    void kv_import(Session & session, const std::vector<uint8_t> & bytes);
    void reserve(Session & session, int slots);

    std::atomic<bool> aborted{false};

  private:
    friend class Graph;
    void compute(ggml_cgraph * graph);

    ggml_backend_dev_t device_;
    ggml_backend_ptr backend_;
    std::shared_ptr<ggml_threadpool> threadpool_;
    ggml_backend_set_n_threads_t set_threads_ = nullptr;
    std::unique_ptr<Weights> weights_;
    ggml_gallocr_ptr allocator_;
    std::vector<int> plan_;  // that its memory is laid out for
    std::vector<uint8_t> graph_memory_;
    Sampler sampler_;
};

}  // namespace chorus
