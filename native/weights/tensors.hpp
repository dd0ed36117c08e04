// Tensors of a model's files on a device: mapped where it reads host memory and their layout is what its kernels take,
// otherwise copied there.
#pragma once
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "weights/mapped_file.hpp"
#include "weights/packed.hpp"
#include "weights/shape.hpp"

namespace chorus {

using Progress = std::function<void(double)>;  // a fraction from 0 to 1

class Tensors {
  public:
    // On a CPU with kernels of our own, the matrices that they take are interleaved for them. repack: the others go into the
    // device's faster layout where it has one; rows then depend on their batch.
    Tensors(const std::vector<TensorSource> & sources, ggml_backend_dev_t device, bool repack);

    bool has(const std::string & name) const { return sources_.count(name) != 0; }

    // Each finds a tensor in the files, or throws std::invalid_argument; `load` fills it.
    ggml_tensor * vector(const std::string & name, int64_t size);  // a norm or a bias, as f32
    ggml_tensor * matrix(const std::string & name, int64_t inputs, int64_t outputs);
    ggml_tensor * table(const std::string & name, int64_t width, int64_t rows);  // whose rows are looked up
    ggml_tensor * values(const std::vector<float> & values);  // in none of the files

    // A matrix that is a table too: its rows stay where they are, and products have a layout of their own.
    void multiply_too(ggml_tensor * table, const std::string & name);

    void load(int threads, const Progress & progress);

    // The matrix in a layout of our own, or null: ggml multiplies it.
    PackedMatrix * packed(const ggml_tensor * matrix) const;
    uint64_t bytes() const { return bytes_; }

  private:
    enum class Use { elements, products, rows };
    using Pending = std::vector<std::pair<ggml_tensor *, const char *>>;  // with its content
    ggml_tensor * place(const std::string & name, std::vector<int64_t> shape, Use use);
    const char * content_of(const TensorSource & source, const std::vector<int64_t> & shape);
    ggml_tensor * converted(const TensorSource & source, const char * data);
    ggml_tensor * laid_out(const TensorSource & source, const char * data, const std::vector<int64_t> & shape, Use use);
    void upload(ggml_context * ctx, ggml_backend_buffer_type_t type, Pending & list, const std::function<void(size_t)> & done);
    void pack(int threads, const Progress & progress);

    std::map<std::string, const TensorSource *> sources_;
    std::map<std::string, std::unique_ptr<MappedFile>> files_;
    std::map<std::string, ggml_backend_buffer_ptr> mapped_;  // by file
    std::map<std::string, ggml_tensor *> placed_;
    std::vector<ggml_backend_buffer_ptr> buffers_;
    Pending uploads_, repacks_, packs_;
    std::unordered_map<const ggml_tensor *, std::unique_ptr<PackedMatrix>> packed_;
    std::list<std::vector<float>> converted_;  // until they are uploaded
    ggml_context_ptr mapped_ctx_, upload_ctx_, repack_ctx_;
    ggml_backend_dev_t device_;
    ggml_backend_buffer_type_t repack_type_ = nullptr;
    bool host_;
    uint64_t bytes_ = 0;
};

}  // namespace chorus
