#include "engine/engine.hpp"

#include <algorithm>
#include <chrono>

#include "engine/graph.hpp"

namespace chorus {

namespace {

constexpr int64_t SMALL_STEP = 500'000;  // multiplications of an MLP's matrix

template <typename F> F procedure(ggml_backend_dev_t device, const char * name) {
    return reinterpret_cast<F>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

std::vector<uint8_t> bytes_of(const ggml_tensor * tensor) {
    std::vector<uint8_t> bytes(ggml_nbytes(tensor));
    ggml_backend_tensor_get(tensor, bytes.data(), 0, bytes.size());
    return bytes;
}

}  // namespace

Engine::Engine(Options o, const Progress & progress) : options_(std::move(o)) {
    device_ = ggml_backend_dev_by_name(options.device.c_str());
    if (device_ == nullptr) throw std::invalid_argument("device: there is no device " + options.device);
    backend_.reset(ggml_backend_dev_init(device_, nullptr));
    if (!backend_) throw std::runtime_error("device: " + options.device + " cannot be opened");
    if (ggml_backend_dev_type(device_) == GGML_BACKEND_DEVICE_TYPE_CPU) open_cpu();
    if (auto set_abort = procedure<ggml_backend_set_abort_callback_t>(device_, "ggml_backend_set_abort_callback")) {
        set_abort(backend_.get(), [](void * flag) { return static_cast<std::atomic<bool> *>(flag)->load(std::memory_order_relaxed); }, &aborted);
    }
    weights_ = std::make_unique<Weights>(options.shape, options.shard, options.tensors, device_, !options.deterministic, options.threads, progress);
    kv_ = std::make_unique<Kv>(options, backend_.get());
    allocator_.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_.get())));
}

void Engine::open_cpu() {
    auto make = procedure<decltype(&ggml_threadpool_new)>(device_, "ggml_threadpool_new");
    auto free = procedure<decltype(&ggml_threadpool_free)>(device_, "ggml_threadpool_free");
    auto use = procedure<decltype(&ggml_backend_cpu_set_threadpool)>(device_, "ggml_backend_cpu_set_threadpool");
    set_threads_ = procedure<ggml_backend_set_n_threads_t>(device_, "ggml_backend_set_n_threads");
    auto params = ggml_threadpool_params_default(options.threads);
    params.poll = 0;  // ranks that share cores must not spin between graphs
    threadpool_.reset(make(&params), free);
    set_threads_(backend_.get(), options.threads);
    use(backend_.get(), threadpool_.get());
}

Engine::~Engine() { sessions.clear(); }

uint64_t Engine::bytes_of_kv() const {
    uint64_t slots = 0;
    for (const auto & [name, session] : sessions) slots += uint64_t(session->capacity);
    return slots * kv_->bytes_per_token();
}

std::shared_ptr<Session> Engine::open(const Sampling & sampling) {
    auto session = std::make_shared<Session>();
    session->sampling = sampling;
    return session;
}

std::shared_ptr<Pass> Engine::begin(const std::vector<Segment> & segments) {
    int rows = 0;
    for (const auto & segment : segments) {
        Session & s = *sessions.at(segment.session);
        kv_->reserve(s, s.used + int(segment.tokens.size()));
        rows += int(segment.tokens.size());
    }
    auto pass = std::make_shared<Pass>(backend_.get(), options.shape.width, rows);
    // There is memory for all of it: from here on nothing fails, so no session is left with half a pass.
    for (const auto & segment : segments) pass->add(sessions.at(segment.session), segment);
    return pass;
}

// Threads meet after every step of a graph. Where the steps are small they would do little else, and on a machine that has other
// work each meeting may wait for a thread that is not running.
void Engine::compute(ggml_cgraph * graph, int rows) {
    const bool small = int64_t(rows) * options.shape.width * options.shape.ffn < SMALL_STEP;
    if (set_threads_ != nullptr) set_threads_(backend_.get(), small ? 1 : options.threads);
    const ggml_status status = ggml_backend_graph_compute(backend_.get(), graph);
    if (status == GGML_STATUS_ABORTED || aborted.load()) throw Aborted();
    if (status != GGML_STATUS_SUCCESS) throw std::runtime_error(std::string("computing failed: ") + ggml_status_to_string(status));
}

StretchResult Engine::run(Pass & pass, std::vector<Op> & ops) {
    const auto begun = std::chrono::steady_clock::now();
    Graph graph(*weights_, options, pass, ops, graph_memory_);
    // ggml compares a graph with the one that it planned for by its nodes and their operands; that is not enough where other
    // steps make as many.
    std::vector<int> plan = Graph::plan_of(pass, ops);
    const bool planned = plan == plan_ || ggml_gallocr_reserve(allocator_.get(), graph.graph);
    plan_ = std::move(plan);
    if (!planned || !ggml_gallocr_alloc_graph(allocator_.get(), graph.graph)) throw std::runtime_error("not enough memory on the device for a pass of " + std::to_string(pass.rows()) + " rows");
    graph.fill();
    const bool has_first = pass.has_first || std::any_of(ops.begin(), ops.end(), [](const Op & op) { return op.kind == Op::Kind::attend; });
    pass.has_h = pass.has_first = false;  // a stretch that is aborted may leave half of one behind
    compute(graph.graph, pass.rows());
    pass.has_h = graph.h != nullptr;
    pass.has_first = has_first;
    StretchResult result;
    for (ggml_tensor * tensor : graph.emitted) result.hiddens.push_back(bytes_of(tensor));
    for (const auto & [layer, tensor, returned] : graph.attended) {
        if (returned) result.attended.push_back(bytes_of(tensor));
        ggml_backend_tensor_copy(tensor, pass.room_for(layer));
    }
    if (graph.head != nullptr) {
        std::vector<float> logits(size_t(options.shape.vocab) * graph.head_op->rows.size());
        ggml_backend_tensor_get(graph.head, logits.data(), 0, logits.size() * sizeof(float));
        head_.read(*graph.head_op, pass, options.shape.vocab, std::move(logits), result);
    }
    result.micros = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begun).count();
    return result;
}

}  // namespace chorus
