#include "weights/weights.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <future>
#include <stdexcept>

namespace chorus {

namespace {

ggml_context_ptr context_of_tensors(size_t count) {
    return ggml_context_ptr(ggml_init({ggml_tensor_overhead() * (count + 1), nullptr, true}));
}

// The CPU's layout for faster matrix products (CPU_REPACK), or null.
ggml_backend_buffer_type_t repack_type_of(ggml_backend_dev_t device) {
    auto reg = ggml_backend_dev_backend_reg(device);
    auto get = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(reg, "ggml_backend_dev_get_extra_bufts"));
    if (get == nullptr) return nullptr;
    for (auto * type = get(device); type != nullptr && *type != nullptr; ++type) {
        if (std::strstr(ggml_backend_buft_name(*type), "REPACK") != nullptr) return *type;
    }
    return nullptr;
}

// Whether the device computes a product with this weight in that layout.
bool repackable(ggml_backend_dev_t device, ggml_backend_buffer_type_t type, ggml_type weight_type, const std::vector<int64_t> & shape) {
    ggml_context_ptr ctx = context_of_tensors(3);
    ggml_tensor * weight = ggml_new_tensor(ctx.get(), weight_type, int(shape.size()), shape.data());
    ggml_backend_buffer_ptr dummy(ggml_backend_buft_alloc_buffer(type, 0));
    ggml_tensor * input = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, weight->ne[0], 64);
    ggml_tensor * product = ggml_mul_mat(ctx.get(), weight, input);
    weight->buffer = dummy.get();
    return ggml_backend_dev_supports_op(device, product);
}

}  // namespace

MappedFile::MappedFile(const std::string & path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe without a writer would wait for one
    if (fd < 0) throw std::runtime_error(path + ": " + std::strerror(errno));
    struct stat status {};
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0) {
        close(fd);
        throw std::runtime_error(path + ": is no file, or is empty");
    }
    size_ = size_t(status.st_size);
    // Private and writable in name only: ggml takes a plain pointer, and nothing writes to weights.
    void * address = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (address == MAP_FAILED) throw std::runtime_error(path + ": cannot be mapped: " + std::strerror(errno));
    data_ = static_cast<char *>(address);
}

void MappedFile::forget(const char * from, size_t bytes) const {
    const auto page = uintptr_t(sysconf(_SC_PAGESIZE));
    const uintptr_t first = (reinterpret_cast<uintptr_t>(from) + page - 1) / page * page, last = (reinterpret_cast<uintptr_t>(from) + bytes) / page * page;
    if (first < last) madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) munmap(data_, size_);
}

Weights::Weights(const Shape & s, const Shard & shard, const std::vector<TensorSource> & sources, ggml_backend_dev_t device, bool repack,
                 int threads, const std::function<void(double)> & progress)
    : layers(size_t(s.layers)), mapped_ctx_(context_of_tensors(sources.size() + 8)), upload_ctx_(context_of_tensors(sources.size() + 8)),
      repack_ctx_(context_of_tensors(sources.size() + 8)), device_(device), host_(ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU) {
    for (const auto & source : sources) sources_[source.name] = &source;
    if (repack && host_) repack_type_ = repack_type_of(device);
    const int64_t d = s.width, q = int64_t(s.heads) * s.head_dim, kv = int64_t(s.kv_heads) * s.head_dim;
    for (int i = 0; i < s.layers; ++i) {
        const std::string blk = "blk." + std::to_string(i) + ".";
        Layer & l = layers[size_t(i)];
        if (shard.attention[size_t(i)]) {
            l.attn_norm = place(blk + "attn_norm.weight", true, {d}, false);
            l.q = place(blk + "attn_q.weight", true, {d, q}, true);
            l.k = place(blk + "attn_k.weight", true, {d, kv}, true);
            l.v = place(blk + "attn_v.weight", true, {d, kv}, true);
            l.o = place(blk + "attn_output.weight", true, {q, d}, true);
            l.q_bias = place(blk + "attn_q.bias", false, {q}, false);
            l.k_bias = place(blk + "attn_k.bias", false, {kv}, false);
            l.v_bias = place(blk + "attn_v.bias", false, {kv}, false);
            l.o_bias = place(blk + "attn_output.bias", false, {d}, false);
            l.q_norm = place(blk + "attn_q_norm.weight", false, {s.head_dim}, false);
            l.k_norm = place(blk + "attn_k_norm.weight", false, {s.head_dim}, false);
        }
        if (shard.mlp[size_t(i)]) {
            l.ffn_norm = place(blk + "ffn_norm.weight", true, {d}, false);
            l.gate = place(blk + "ffn_gate.weight", true, {d, s.ffn}, true);
            l.up = place(blk + "ffn_up.weight", true, {d, s.ffn}, true);
            l.down = place(blk + "ffn_down.weight", true, {s.ffn, d}, true);
        }
    }
    const bool tied = sources_.count("output.weight") == 0;
    if (shard.embed) embedding = place("token_embd.weight", true, {d, s.vocab}, false);
    if (shard.head) {
        output_norm = place("output_norm.weight", true, {d}, false);
        output = place(tied ? "token_embd.weight" : "output.weight", true, {d, s.vocab}, !tied);
        if (tied && host_ && PackedMatrix::possible(output->type, d, s.vocab)) packs_.emplace_back(output, data_of("token_embd.weight"));
    }
    upload(progress);
    pack(threads, progress);
    converted_.clear();
    if (!s.rope_factors.empty()) {
        ggml_context_ptr ctx = context_of_tensors(1);
        rope_factors = ggml_new_tensor_1d(ctx.get(), GGML_TYPE_F32, int64_t(s.rope_factors.size()));
        buffers_.emplace_back(ggml_backend_alloc_ctx_tensors_from_buft(ctx.get(), ggml_backend_dev_buffer_type(device)));
        ggml_backend_tensor_set(rope_factors, s.rope_factors.data(), 0, ggml_nbytes(rope_factors));
        rope_ctx_ = std::move(ctx);
    }
    progress(1.0);
}

// In its file: a tensor that is not aligned has no memory of its own before it is uploaded.
const char * Weights::data_of(const std::string & name) const {
    const TensorSource & source = *sources_.at(name);
    return files_.at(source.file)->data() + source.offset;
}

ggml_tensor * Weights::place(const std::string & name, bool required, std::vector<int64_t> shape, bool matrix) {
    const auto already = placed_.find(name);
    if (already != placed_.end()) return already->second;
    const auto found = sources_.find(name);
    if (found == sources_.end()) {
        if (required) throw std::invalid_argument("tensors has no " + name);
        return nullptr;
    }
    const TensorSource & source = *found->second;
    const bool vector = shape.size() == 1;
    while (source.shape.size() > shape.size()) shape.push_back(1);
    if (source.shape != shape) throw std::invalid_argument("tensors: " + name + " has another shape than `shape` asks for");
    auto & file = files_[source.file];
    if (!file) file = std::make_unique<MappedFile>(source.file);
    if (source.offset > file->size() || source.bytes > file->size() - source.offset) {
        throw std::invalid_argument("tensors: " + name + " ends after the end of " + source.file);
    }
    const int64_t block = ggml_blck_size(source.type);
    if (block == 0 || shape[0] % block != 0) throw std::invalid_argument("tensors: " + name + " has rows that are no multiple of its type's block");
    size_t expected = ggml_row_size(source.type, shape[0]);
    for (size_t i = 1; i < shape.size(); ++i) expected *= size_t(shape[i]);
    if (expected != source.bytes) throw std::invalid_argument("tensors: " + name + " has bytes " + std::to_string(source.bytes) + "; its type and shape need " + std::to_string(expected));
    const char * data = file->data() + source.offset;
    bytes += source.bytes;

    if (vector && source.type != GGML_TYPE_F32) {  // norms and biases: elementwise kernels want f32
        auto & values = converted_.emplace_back(size_t(shape[0]));
        ggml_get_type_traits(source.type)->to_float(data, values.data(), shape[0]);
        ggml_tensor * tensor = ggml_new_tensor_1d(upload_ctx_.get(), GGML_TYPE_F32, shape[0]);
        uploads_.emplace_back(tensor, reinterpret_cast<const char *>(values.data()));
        return placed_[name] = tensor;
    }
    const size_t alignment = source.type == GGML_TYPE_F32 ? 4 : 2;  // quantised blocks begin with 16-bit scales
    const bool mappable = host_ && reinterpret_cast<uintptr_t>(data) % alignment == 0;
    ggml_tensor * tensor = nullptr;
    if (matrix && host_ && PackedMatrix::possible(source.type, shape[0], shape[1])) {
        tensor = ggml_new_tensor(mapped_ctx_.get(), source.type, int(shape.size()), shape.data());  // a name, no memory
        packs_.emplace_back(tensor, data);
    } else if (matrix && repack_type_ != nullptr) {
        if (repackable(device_, repack_type_, source.type, shape)) {
            tensor = ggml_new_tensor(repack_ctx_.get(), source.type, int(shape.size()), shape.data());
            repacks_.emplace_back(tensor, data);
        }
    }
    if (tensor == nullptr && mappable) {
        auto & buffer = mapped_[source.file];
        if (!buffer) buffer.reset(ggml_backend_cpu_buffer_from_ptr(file->data(), file->size()));
        tensor = ggml_new_tensor(mapped_ctx_.get(), source.type, int(shape.size()), shape.data());
        ggml_backend_tensor_alloc(buffer.get(), tensor, const_cast<char *>(data));
    } else if (tensor == nullptr) {
        tensor = ggml_new_tensor(upload_ctx_.get(), source.type, int(shape.size()), shape.data());
        uploads_.emplace_back(tensor, data);
    }
    ggml_set_name(tensor, name.c_str());
    placed_[name] = tensor;
    return tensor;
}

void Weights::upload(const std::function<void(double)> & progress) {
    size_t total = 0, done = 0;
    for (const auto * list : {&uploads_, &repacks_}) {
        for (const auto & [tensor, data] : *list) total += ggml_nbytes(tensor);
    }
    const auto copy = [&](ggml_context * ctx, ggml_backend_buffer_type_t type, std::vector<std::pair<ggml_tensor *, const char *>> & list) {
        if (list.empty()) return;
        ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors_from_buft(ctx, type));
        if (!buffer) throw std::runtime_error("not enough memory on the device for " + std::to_string(total >> 20) + " MiB of weights");
        ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        buffers_.push_back(std::move(buffer));
        for (const auto & [tensor, data] : list) {
            ggml_backend_tensor_set(tensor, data, 0, ggml_nbytes(tensor));
            done += ggml_nbytes(tensor);
            progress(double(done) / double(total));
        }
        list.clear();
    };
    copy(upload_ctx_.get(), ggml_backend_dev_buffer_type(device_), uploads_);
    copy(repack_ctx_.get(), repack_type_, repacks_);
}

PackedMatrix * Weights::packed(const ggml_tensor * matrix) const {
    const auto found = packed_.find(matrix);
    return found == packed_.end() ? nullptr : found->second.get();
}

void Weights::pack(int threads, const std::function<void(double)> & progress) {
    std::vector<std::unique_ptr<PackedMatrix>> packed(packs_.size());
    std::atomic<size_t> next{0}, done{0};
    std::vector<std::future<void>> workers;
    for (int i = 0; i < threads; ++i) {
        workers.push_back(std::async(std::launch::async, [&] {
            for (size_t at; (at = next++) < packs_.size(); ++done) {
                const auto & [tensor, data] = packs_[at];
                packed[at] = std::make_unique<PackedMatrix>(tensor->type, tensor->ne[0], tensor->ne[1], data);
            }
        }));
    }
    for (auto & worker : workers) {
        while (worker.wait_for(std::chrono::milliseconds(100)) == std::future_status::timeout) progress(double(done) / double(packs_.size()));
    }
    for (auto & worker : workers) worker.get();
    for (size_t i = 0; i < packs_.size(); ++i) {
        const auto & [tensor, data] = packs_[i];
        for (const auto & [_, file] : files_) {
            if (data >= file->data() && data < file->data() + file->size()) file->forget(data, ggml_nbytes(tensor));
        }
        packed_[tensor] = std::move(packed[i]);
    }
    packs_.clear();
}

}  // namespace chorus
