// A rank's engine: a shard of a model on a device, its sessions, and passes over batches of their tokens.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>

#include "engine/head.hpp"
#include "engine/kv.hpp"
#include "engine/pass.hpp"
#include "ggml-cpu.h"
#include "weights/weights.hpp"

namespace chorus {

struct Aborted : std::runtime_error {
    Aborted() : std::runtime_error("the pass was aborted") {}
};

class Engine {
    Options options_;

  public:
    Engine(Options options, const Progress & progress);
    ~Engine();
    Engine(const Engine &) = delete;

    const Options & options = options_;
    static constexpr int max_rows = 512;

    // Makes it an engine of a part of its shard, when a standby takes a rank's place. No session may be open.
    void narrow(const Shard & shard) { options_.shard = shard; }

    uint64_t bytes_of_weights() const { return weights_->bytes(); }
    uint64_t bytes_of_kv() const;

    std::map<std::string, std::shared_ptr<Session>> sessions;
    std::shared_ptr<Session> open(const Sampling & sampling);

    std::shared_ptr<Pass> begin(const std::vector<Segment> & segments);
    const Kv & kv() const { return *kv_; }

    // On the compute thread only.
    StretchResult run(Pass & pass, std::vector<Op> & ops);

    std::atomic<bool> aborted{false};

  private:
    void open_cpu();
    void compute(ggml_cgraph * graph, int rows);

    ggml_backend_dev_t device_;
    ggml_backend_ptr backend_;
    std::shared_ptr<ggml_threadpool> threadpool_;
    ggml_backend_set_n_threads_t set_threads_ = nullptr;
    std::unique_ptr<Weights> weights_;
    std::unique_ptr<Kv> kv_;
    ggml_gallocr_ptr allocator_;
    std::vector<int> plan_;  // the one that the allocator's memory is laid out for
    std::vector<uint8_t> graph_memory_;
    Head head_;
};

}  // namespace chorus
