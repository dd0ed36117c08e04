#include "weights/tensors.hpp"

#include <atomic>
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

Tensors::Tensors(const std::vector<TensorSource> & sources, ggml_backend_dev_t device, bool repack)
    : mapped_ctx_(context_of_tensors(sources.size() + 8)), upload_ctx_(context_of_tensors(sources.size() + 8)),
      repack_ctx_(context_of_tensors(sources.size() + 8)), device_(device), host_(ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU) {
    for (const auto & source : sources) sources_[source.name] = &source;
    if (repack && host_) repack_type_ = repack_type_of(device);
}

ggml_tensor * Tensors::vector(const std::string & name, int64_t size) { return place(name, {size}, Use::elements); }

ggml_tensor * Tensors::matrix(const std::string & name, int64_t inputs, int64_t outputs) { return place(name, {inputs, outputs}, Use::products); }

ggml_tensor * Tensors::table(const std::string & name, int64_t width, int64_t rows) { return place(name, {width, rows}, Use::rows); }

ggml_tensor * Tensors::values(const std::vector<float> & values) {
    ggml_tensor * tensor = ggml_new_tensor_1d(upload_ctx_.get(), GGML_TYPE_F32, int64_t(values.size()));
    uploads_.emplace_back(tensor, reinterpret_cast<const char *>(converted_.emplace_back(values).data()));
    return tensor;
}

void Tensors::multiply_too(ggml_tensor * table, const std::string & name) {
    if (!host_ || !PackedMatrix::possible(table->type, table->ne[0], table->ne[1])) return;
    const TensorSource & source = *sources_.at(name);
    packs_.emplace_back(table, files_.at(source.file)->data() + source.offset);  // an unaligned table has no memory yet
}

ggml_tensor * Tensors::place(const std::string & name, std::vector<int64_t> shape, Use use) {
    const auto already = placed_.find(name);
    if (already != placed_.end()) return already->second;
    const auto found = sources_.find(name);
    if (found == sources_.end()) throw std::invalid_argument("tensors has no " + name);
    const TensorSource & source = *found->second;
    while (source.shape.size() > shape.size()) shape.push_back(1);
    const char * data = content_of(source, shape);
    bytes_ += source.bytes;
    if (use == Use::elements && source.type != GGML_TYPE_F32) return placed_[name] = converted(source, data);
    ggml_tensor * tensor = laid_out(source, data, shape, use);
    ggml_set_name(tensor, name.c_str());
    return placed_[name] = tensor;
}

// A tensor's bytes in its file, once its shape and its place there are found to be what they should be.
const char * Tensors::content_of(const TensorSource & source, const std::vector<int64_t> & shape) {
    const std::string at = "tensors: " + source.name;
    if (source.shape != shape) throw std::invalid_argument(at + " has another shape than `shape` asks for");
    auto & file = files_[source.file];
    if (!file) file = std::make_unique<MappedFile>(source.file);
    if (source.offset > file->size() || source.bytes > file->size() - source.offset) {
        throw std::invalid_argument(at + " ends after the end of " + source.file);
    }
    const int64_t block = ggml_blck_size(source.type);
    if (block == 0 || shape[0] % block != 0) throw std::invalid_argument(at + " has rows that are no multiple of its type's block");
    size_t expected = ggml_row_size(source.type, shape[0]);
    for (size_t i = 1; i < shape.size(); ++i) expected *= size_t(shape[i]);
    if (expected != source.bytes) throw std::invalid_argument(at + " has bytes " + std::to_string(source.bytes) + "; its type and shape need " + std::to_string(expected));
    return file->data() + source.offset;
}

// Elementwise kernels want f32.
ggml_tensor * Tensors::converted(const TensorSource & source, const char * data) {
    auto & values = converted_.emplace_back(size_t(source.shape[0]));
    ggml_get_type_traits(source.type)->to_float(data, values.data(), source.shape[0]);
    ggml_tensor * tensor = ggml_new_tensor_1d(upload_ctx_.get(), GGML_TYPE_F32, source.shape[0]);
    uploads_.emplace_back(tensor, reinterpret_cast<const char *>(values.data()));
    return tensor;
}

ggml_tensor * Tensors::laid_out(const TensorSource & source, const char * data, const std::vector<int64_t> & shape, Use use) {
    const auto made_in = [&](const ggml_context_ptr & ctx) { return ggml_new_tensor(ctx.get(), source.type, int(shape.size()), shape.data()); };
    if (use == Use::products && host_ && PackedMatrix::possible(source.type, shape[0], shape[1])) {
        ggml_tensor * tensor = made_in(mapped_ctx_);  // a name, no memory
        packs_.emplace_back(tensor, data);
        return tensor;
    }
    if (use == Use::products && repack_type_ != nullptr && repackable(device_, repack_type_, source.type, shape)) {
        ggml_tensor * tensor = made_in(repack_ctx_);
        repacks_.emplace_back(tensor, data);
        return tensor;
    }
    const size_t alignment = source.type == GGML_TYPE_F32 ? 4 : 2;  // quantised blocks begin with 16-bit scales
    if (host_ && reinterpret_cast<uintptr_t>(data) % alignment == 0) {
        const MappedFile & file = *files_.at(source.file);
        auto & buffer = mapped_[source.file];
        if (!buffer) buffer.reset(ggml_backend_cpu_buffer_from_ptr(file.data(), file.size()));
        ggml_tensor * tensor = made_in(mapped_ctx_);
        ggml_backend_tensor_alloc(buffer.get(), tensor, const_cast<char *>(data));
        return tensor;
    }
    ggml_tensor * tensor = made_in(upload_ctx_);
    uploads_.emplace_back(tensor, data);
    return tensor;
}

void Tensors::load(int threads, const Progress & progress) {
    size_t total = 0, done = 0;
    for (const auto * list : {&uploads_, &repacks_}) {
        for (const auto & [tensor, data] : *list) total += ggml_nbytes(tensor);
    }
    const auto more = [&](size_t bytes) { progress(double(done += bytes) / double(total)); };
    upload(upload_ctx_.get(), ggml_backend_dev_buffer_type(device_), uploads_, more);
    upload(repack_ctx_.get(), repack_type_, repacks_, more);
    pack(threads, progress);
    converted_.clear();
}

void Tensors::upload(ggml_context * ctx, ggml_backend_buffer_type_t type, Pending & list, const std::function<void(size_t)> & done) {
    if (list.empty()) return;
    ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors_from_buft(ctx, type));
    if (!buffer) {
        size_t bytes = 0;
        for (const auto & [tensor, data] : list) bytes += ggml_nbytes(tensor);
        throw std::runtime_error("not enough memory on the device for " + std::to_string(bytes >> 20) + " MiB of weights");
    }
    ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    buffers_.push_back(std::move(buffer));
    for (const auto & [tensor, data] : list) {
        ggml_backend_tensor_set(tensor, data, 0, ggml_nbytes(tensor));
        done(ggml_nbytes(tensor));
    }
    list.clear();
}

void Tensors::pack(int threads, const Progress & progress) {
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
            if (file->holds(data)) file->forget(data, ggml_nbytes(tensor));
        }
        packed_[tensor] = std::move(packed[i]);
    }
    packs_.clear();
}

PackedMatrix * Tensors::packed(const ggml_tensor * matrix) const {
    const auto found = packed_.find(matrix);
    return found == packed_.end() ? nullptr : found->second.get();
}

}  // namespace chorus
