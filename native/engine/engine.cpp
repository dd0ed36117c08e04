#include "engine/engine.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "engine/graph.hpp"

namespace chorus {

namespace {

constexpr int64_t SMALL_STEP = 500'000;  // multiplications of an MLP's matrix
constexpr int KV_CHUNK = 256;  // slots; a cache grows by doubling, rounded up to this

template <typename F> F procedure(ggml_backend_dev_t device, const char * name) {
    return reinterpret_cast<F>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

std::vector<uint8_t> bytes_of(const ggml_tensor * tensor) {
    std::vector<uint8_t> bytes(ggml_nbytes(tensor));
    ggml_backend_tensor_get(tensor, bytes.data(), 0, bytes.size());
    return bytes;
}

// What a stretch's graph is made of: two with the same plan differ in sizes alone.
std::vector<int> plan_of(const Pass & pass, const std::vector<Op> & ops) {
    std::vector<int> plan{pass.has_h};
    for (const auto & part : pass.parts) plan.push_back(part.rows);
    for (const Op & op : ops) {
        bool in_order = true;  // the head's rows, which are then all of them, or are picked by a step of their own
        for (size_t i = 0; i < op.rows.size(); ++i) in_order = in_order && op.rows[i] == int(i);
        plan.insert(plan.end(), {-1, int(op.kind), op.from, op.to, op.whole, in_order, int(op.rows.size())});
        plan.insert(plan.end(), op.layers.begin(), op.layers.end());
        for (const auto & block : op.attended) plan.push_back(block.has_value());
    }
    return plan;
}

// The tokens of a row's path, its own the last: the committed ones, and its ancestors, which are named from the row up.
std::vector<int32_t> history_of(const Session & s, const std::vector<int> & ancestors) {
    std::vector<int32_t> history(s.tokens.begin(), s.tokens.begin() + s.committed);
    for (auto slot = ancestors.rbegin(); slot != ancestors.rend(); ++slot) history.push_back(s.tokens[size_t(*slot)]);
    return history;
}

// A logit that is no number, or minus infinity, has the lowest of numbers as its log-probability.
float finite(double log_prob) {
    const double lowest = std::numeric_limits<float>::lowest();
    return log_prob > lowest ? float(log_prob) : float(lowest);
}

}  // namespace

Engine::Engine(Options o, const std::function<void(double)> & progress) : options_(std::move(o)) {
    device_ = ggml_backend_dev_by_name(options.device.c_str());
    if (device_ == nullptr) throw std::invalid_argument("device: there is no device " + options.device);
    backend_.reset(ggml_backend_dev_init(device_, nullptr));
    if (!backend_) throw std::runtime_error("device: " + options.device + " cannot be opened");
    if (ggml_backend_dev_type(device_) == GGML_BACKEND_DEVICE_TYPE_CPU) {
        auto make = procedure<decltype(&ggml_threadpool_new)>(device_, "ggml_threadpool_new");
        auto free = procedure<decltype(&ggml_threadpool_free)>(device_, "ggml_threadpool_free");
        auto use = procedure<decltype(&ggml_backend_cpu_set_threadpool)>(device_, "ggml_backend_cpu_set_threadpool");
        auto set_threads = procedure<ggml_backend_set_n_threads_t>(device_, "ggml_backend_set_n_threads");
        auto params = ggml_threadpool_params_default(options.threads);
        params.poll = 0;  // ranks that share cores must not spin between graphs
        threadpool_.reset(make(&params), free);
        set_threads(backend_.get(), options.threads);
        set_threads_ = set_threads;
        use(backend_.get(), threadpool_.get());
    }
    if (auto set_abort = procedure<ggml_backend_set_abort_callback_t>(device_, "ggml_backend_set_abort_callback")) {
        set_abort(backend_.get(), [](void * flag) { return static_cast<std::atomic<bool> *>(flag)->load(std::memory_order_relaxed); }, &aborted);
    }
    weights_ = std::make_unique<Weights>(options.shape, options.shard, options.tensors, device_, !options.deterministic, options.threads, progress);
    allocator_.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_.get())));
}

Engine::~Engine() { sessions.clear(); }

uint64_t Engine::bytes_of_kv_per_token() const {
    const auto & held = options.shard.attention;
    return 2 * uint64_t(std::count(held.begin(), held.end(), true)) * ggml_row_size(options.kv_type, int64_t(options.shape.head_dim) * options.shape.kv_heads);
}

uint64_t Engine::bytes_of_kv() const {
    uint64_t bytes = 0;
    for (const auto & [name, session] : sessions) bytes += uint64_t(session->capacity) * bytes_of_kv_per_token();
    return bytes;
}

std::shared_ptr<Session> Engine::open(const Sampling & sampling) {
    auto session = std::make_shared<Session>();
    session->sampling = sampling;
    return session;
}

// Makes room for `slots` slots, moving what is there.
void Engine::reserve(Session & s, int slots) {
    if (slots <= s.capacity) return;
    const int wanted = std::max(slots, s.capacity * 2);
    const int capacity = (wanted + KV_CHUNK - 1) / KV_CHUNK * KV_CHUNK;
    const size_t layers = size_t(options.shape.layers);
    const int64_t row = int64_t(options.shape.head_dim) * options.shape.kv_heads;
    ggml_context_ptr ctx(ggml_init({ggml_tensor_overhead() * (2 * layers + 1), nullptr, true}));
    std::vector<ggml_tensor *> keys(layers, nullptr), values(layers, nullptr);
    for (size_t i = 0; i < layers; ++i) {
        if (!options.shard.attention[i]) continue;
        keys[i] = ggml_new_tensor_2d(ctx.get(), options.kv_type, row, capacity);
        values[i] = ggml_new_tensor_2d(ctx.get(), options.kv_type, row, capacity);
    }
    ggml_backend_buffer_ptr buffer;
    if (bytes_of_kv_per_token() > 0) {
        buffer.reset(ggml_backend_alloc_ctx_tensors(ctx.get(), backend_.get()));
        if (!buffer) throw std::runtime_error("not enough memory for the KV of " + std::to_string(capacity) + " tokens");
        ggml_backend_buffer_clear(buffer.get(), 0);  // masked slots are still multiplied on some devices: no NaN there
        for (size_t i = 0; i < layers; ++i) {
            if (keys[i] == nullptr || s.used == 0) continue;
            const size_t bytes = ggml_row_size(options.kv_type, row) * size_t(s.used);
            std::vector<uint8_t> copy(bytes);
            for (auto [from, to] : {std::pair{s.keys[i], keys[i]}, std::pair{s.values[i], values[i]}}) {
                ggml_backend_tensor_get(from, copy.data(), 0, bytes);
                ggml_backend_tensor_set(to, copy.data(), 0, bytes);
            }
        }
    }
    s.keys = std::move(keys);
    s.values = std::move(values);
    s.buffer = std::move(buffer);
    s.ctx = std::move(ctx);
    s.capacity = capacity;
}

std::shared_ptr<Pass> Engine::begin(const std::vector<Segment> & segments) {
    auto pass = std::make_shared<Pass>();
    int batch = 0;
    for (const auto & segment : segments) {
        Session & s = *sessions.at(segment.session);
        reserve(s, s.used + int(segment.tokens.size()));
        batch += int(segment.tokens.size());
    }
    pass->ctx.reset(ggml_init({ggml_tensor_overhead() * 3, nullptr, true}));
    pass->h = ggml_new_tensor_2d(pass->ctx.get(), GGML_TYPE_F32, options.shape.width, batch);
    pass->first = ggml_new_tensor_2d(pass->ctx.get(), GGML_TYPE_F32, options.shape.width, batch);
    pass->buffer.reset(ggml_backend_alloc_ctx_tensors(pass->ctx.get(), backend_.get()));
    if (!pass->buffer) throw std::runtime_error("not enough memory for a pass");
    // There is memory for all of it: from here on nothing fails, so no session is left with half a pass.
    for (const auto & segment : segments) {
        auto session = sessions.at(segment.session);
        Session & s = *session;
        const int rows = int(segment.tokens.size()), slot = s.used;
        Pass::Part part{session, pass->rows(), rows, slot, {}};
        s.tokens.resize(size_t(slot));
        s.positions.resize(size_t(slot));
        s.parents.resize(size_t(slot));
        for (int i = 0; i < rows; ++i) {
            const int parent = segment.parents[size_t(i)];
            const int position = parent < 0 ? 0 : s.positions[size_t(parent)] + 1;
            s.tokens.push_back(segment.tokens[size_t(i)]);
            s.positions.push_back(position);
            s.parents.push_back(parent);
            pass->tokens.push_back(segment.tokens[size_t(i)]);
            pass->positions.push_back(position);
            std::vector<int> ancestors;
            for (int at = slot + i; at >= s.committed; at = s.parents[size_t(at)]) ancestors.push_back(at);
            part.ancestors.push_back(std::move(ancestors));
        }
        s.used = slot + rows;
        pass->parts.push_back(std::move(part));
    }
    return pass;
}

void Engine::compute(ggml_cgraph * graph) {
    const ggml_status status = ggml_backend_graph_compute(backend_.get(), graph);
    if (status == GGML_STATUS_ABORTED || aborted.load()) throw Aborted();
    if (status != GGML_STATUS_SUCCESS) throw std::runtime_error(std::string("computing failed: ") + ggml_status_to_string(status));
}

StretchResult Engine::run(Pass & pass, std::vector<Op> & ops) {
    const auto begun = std::chrono::steady_clock::now();
    StretchResult result;
    Graph graph(*weights_, options, pass, ops, graph_memory_);
    for (auto & op : ops) graph.record(op);
    graph.finish();
    // ggml compares a graph with the one that it planned for by its nodes and their operands; that is not enough where other
    // steps make as many.
    std::vector<int> plan = plan_of(pass, ops);
    const bool planned = plan == plan_ || ggml_gallocr_reserve(allocator_.get(), graph.graph);
    plan_ = std::move(plan);
    if (!planned || !ggml_gallocr_alloc_graph(allocator_.get(), graph.graph)) throw std::runtime_error("not enough memory on the device for a pass of " + std::to_string(pass.rows()) + " rows");
    graph.fill();
    const bool has_first = pass.has_first || std::any_of(ops.begin(), ops.end(), [](const Op & op) { return op.kind == Op::Kind::attend; });
    pass.has_h = pass.has_first = false;  // a stretch that is aborted may leave half of one behind
    // Threads meet after every step of a graph. Where the steps are small they would do little else, and on a machine that
    // has other work each meeting may wait for a thread that is not running.
    const bool small = int64_t(pass.rows()) * options.shape.width * options.shape.ffn < SMALL_STEP;
    if (set_threads_ != nullptr) set_threads_(backend_.get(), small ? 1 : options.threads);
    compute(graph.graph);
    pass.has_h = graph.h != nullptr;
    pass.has_first = has_first;
    for (ggml_tensor * tensor : graph.emitted) result.hiddens.push_back(bytes_of(tensor));
    for (const auto & [layer, tensor, returned] : graph.attended) {
        if (returned) result.attended.push_back(bytes_of(tensor));
        auto & memory = pass.kept_memory[layer];
        if (!memory.first) {
            memory.first.reset(ggml_init({ggml_tensor_overhead() * 2, nullptr, true}));
            pass.kept[layer] = ggml_new_tensor_2d(memory.first.get(), GGML_TYPE_F32, options.shape.width, pass.rows());
            memory.second.reset(ggml_backend_alloc_ctx_tensors(memory.first.get(), backend_.get()));
            if (!memory.second) throw std::runtime_error("not enough memory for a pass");
        }
        ggml_backend_tensor_copy(tensor, pass.kept[layer]);
    }
    if (graph.head != nullptr) {
        const Op & op = *graph.head_op;
        const int vocab = options.shape.vocab;
        std::vector<float> logits(size_t(vocab) * op.rows.size());
        ggml_backend_tensor_get(graph.head, logits.data(), 0, logits.size() * sizeof(float));
        if (op.want == Op::Want::logits) {
            result.has_logits = true;
            result.logits = std::move(logits);
        } else {
            result.has_tokens = result.has_log_probs = true;
            result.has_top = op.top > 0;
            std::vector<int32_t> best_of_row;
            for (size_t i = 0; i < op.rows.size(); ++i) {
                const int row = op.rows[i];
                const auto & part = *std::find_if(pass.parts.begin(), pass.parts.end(), [&](const auto & p) { return row < p.first_row + p.rows; });
                const Session & s = *part.session;
                const uint32_t position = uint32_t(pass.positions[size_t(row)] + 1);
                std::vector<int32_t> history;
                if (s.sampling.looks_back()) history = history_of(s, part.ancestors[size_t(row - part.first_row)]);
                float * at = logits.data() + i * size_t(vocab);
                if (op.want == Op::Want::tokens) {
                    const float best = at[argmax(at, vocab)];
                    const double mass = log_mass(at, vocab, best);
                    const int32_t token = [&] {
                        if (!op.given.empty()) return op.given[i];
                        std::vector<float> copy;
                        float * mutable_at = at;
                        if (s.sampling.adjusts(position)) copy.assign(at, at + vocab), mutable_at = copy.data();
                        return sampler_.sample(mutable_at, vocab, s.sampling, position, history);
                    }();
                    result.tokens.push_back(token);
                    const auto log_prob = [&](int32_t of) { return finite(double(at[of] - best) - mass); };
                    result.log_probs.push_back(log_prob(token));
                    if (op.top > 0) {
                        sampler_.best(at, vocab, op.top, best_of_row);
                        best_of_row.resize(size_t(op.top), token);  // fewer only where logits are no numbers
                        for (const int32_t other : best_of_row) {
                            result.top_tokens.push_back(other);
                            result.top_log_probs.push_back(log_prob(other));
                        }
                    }
                } else {
                    std::vector<Candidate> found(size_t(op.k));
                    sampler_.candidates(at, vocab, s.sampling, position, history, op.k, found.data());
                    for (const auto & c : found) {
                        result.tokens.push_back(c.token);
                        result.log_probs.push_back(c.log_prob);
                    }
                }
            }
        }
    }
    result.micros = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begun).count();
    return result;
}

void Engine::commit(Session & s, const std::vector<int32_t> & slots) {
    const size_t bytes = ggml_row_size(options.kv_type, int64_t(options.shape.head_dim) * options.shape.kv_heads);
    std::vector<uint8_t> row(bytes);
    for (const int32_t from : slots) {
        const int to = s.committed++;
        if (from == to) continue;
        for (size_t i = 0; i < s.keys.size(); ++i) {
            for (ggml_tensor * cache : {s.keys[i], s.values[i]}) {
                if (cache == nullptr) continue;
                ggml_backend_tensor_get(cache, row.data(), bytes * size_t(from), bytes);
                ggml_backend_tensor_set(cache, row.data(), bytes * size_t(to), bytes);
            }
        }
        s.tokens[size_t(to)] = s.tokens[size_t(from)];
        s.positions[size_t(to)] = s.positions[size_t(from)];
        s.parents[size_t(to)] = to - 1;
    }
    s.used = s.committed;
}

std::vector<uint8_t> Engine::kv_export(const Session & s, int from, int to) {
    const size_t row = ggml_row_size(options.kv_type, int64_t(options.shape.head_dim) * options.shape.kv_heads);
    const size_t count = size_t(to - from);
    std::vector<uint8_t> bytes(2 * sizeof(int32_t) + count * sizeof(int32_t) + count * bytes_of_kv_per_token());
    const int32_t header[2] = {from, to};
    uint8_t * at = bytes.data();
    std::memcpy(at, header, sizeof header), at += sizeof header;
    std::memcpy(at, s.tokens.data() + from, count * sizeof(int32_t)), at += count * sizeof(int32_t);
    for (size_t i = 0; i < s.keys.size(); ++i) {
        for (ggml_tensor * cache : {s.keys[i], s.values[i]}) {
            if (cache == nullptr) continue;
            ggml_backend_tensor_get(cache, at, row * size_t(from), row * count);
            at += row * count;
        }
    }
    return bytes;
}

void Engine::kv_import(Session & s, const std::vector<uint8_t> & bytes) {
    int32_t header[2];
    if (bytes.size() < sizeof header) throw std::invalid_argument("bytes is too short for a KV delta");
    std::memcpy(header, bytes.data(), sizeof header);
    const int from = header[0], to = header[1];
    if (from != s.committed) throw std::invalid_argument("bytes begins at position " + std::to_string(from) + "; expected " + std::to_string(s.committed));
    if (to < from || to > options.shape.context) throw std::invalid_argument("bytes ends at position " + std::to_string(to));
    const size_t count = size_t(to - from);
    const size_t expected = sizeof header + count * (sizeof(int32_t) + bytes_of_kv_per_token());
    if (bytes.size() != expected) throw std::invalid_argument("bytes has " + std::to_string(bytes.size()) + " bytes; expected " + std::to_string(expected));
    s.used = s.committed;
    reserve(s, to);
    const size_t row = ggml_row_size(options.kv_type, int64_t(options.shape.head_dim) * options.shape.kv_heads);
    const uint8_t * at = bytes.data() + sizeof header;
    for (auto * list : {&s.tokens, &s.positions, &s.parents}) list->resize(size_t(to));
    std::memcpy(s.tokens.data() + from, at, count * sizeof(int32_t)), at += count * sizeof(int32_t);
    for (int i = from; i < to; ++i) s.positions[size_t(i)] = i, s.parents[size_t(i)] = i - 1;
    for (size_t i = 0; i < s.keys.size(); ++i) {
        for (ggml_tensor * cache : {s.keys[i], s.values[i]}) {
            if (cache == nullptr) continue;
            ggml_backend_tensor_set(cache, at, row * size_t(from), row * count);
            at += row * count;
        }
    }
    s.committed = s.used = to;
}

}  // namespace chorus
