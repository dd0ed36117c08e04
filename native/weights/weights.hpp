// A shard of a model on a device: its shape, and its weights, memory-mapped where the device reads host memory.
#pragma once
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml.h"
#include "weights/packed.hpp"

namespace chorus {

struct Shape {
    int layers, width, heads, kv_heads, head_dim, ffn, vocab, context;
    float norm_eps, rope_theta;
    int rope_dim;
    bool rope_neighbours;             // x[2i] with x[2i + 1]; otherwise x[i] with x[i + rope_dim / 2]
    std::vector<float> rope_factors;  // empty, or rope_dim / 2
};

struct TensorSource {
    std::string name, file;
    uint64_t offset, bytes;
    ggml_type type;
    std::vector<int64_t> shape;  // contiguous dimension first
};

struct Shard {
    std::vector<bool> attention, mlp;  // by layer
    bool embed, head;
};

// A read-only mapping of a whole file; pages are read when they are touched.
class MappedFile {
  public:
    explicit MappedFile(const std::string & path);
    ~MappedFile();
    MappedFile(const MappedFile &) = delete;
    MappedFile & operator=(const MappedFile &) = delete;
    char * data() const { return data_; }
    void forget(const char * from, size_t bytes) const;  // that these have been read: the system may have their memory back
    size_t size() const { return size_; }

  private:
    char * data_ = nullptr;
    size_t size_ = 0;
};

struct Layer {
    ggml_tensor *attn_norm = nullptr, *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
    ggml_tensor *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;
    ggml_tensor *q_norm = nullptr, *k_norm = nullptr;  // qwen3
    ggml_tensor *ffn_norm = nullptr, *gate = nullptr, *up = nullptr, *down = nullptr;
};

class Weights {
  public:
    // On a CPU with kernels of our own, the matrices that they take are interleaved for them, by so many threads. repack: put
    // the others into the device's faster layout where it has one; rows then depend on their batch.
    Weights(const Shape & shape, const Shard & shard, const std::vector<TensorSource> & sources, ggml_backend_dev_t device, bool repack,
            int threads, const std::function<void(double)> & progress);

    // The matrix in a layout of our own, or null: ggml multiplies it.
    PackedMatrix * packed(const ggml_tensor * matrix) const;

    std::vector<Layer> layers;
    ggml_tensor *embedding = nullptr, *output_norm = nullptr, *output = nullptr, *rope_factors = nullptr;
    uint64_t bytes = 0;

  private:
    const char * data_of(const std::string & name) const;
    ggml_tensor * place(const std::string & name, bool required, std::vector<int64_t> shape, bool matrix);
    void upload(const std::function<void(double)> & progress);
    void pack(int threads, const std::function<void(double)> & progress);

    std::map<std::string, const TensorSource *> sources_;
    std::map<std::string, std::unique_ptr<MappedFile>> files_;
    std::map<std::string, ggml_backend_buffer_ptr> mapped_;
    std::map<std::string, ggml_tensor *> placed_;
    std::vector<ggml_backend_buffer_ptr> buffers_;
    std::vector<std::pair<ggml_tensor *, const char *>> uploads_, repacks_;
    std::vector<std::pair<ggml_tensor *, const char *>> packs_;
    std::unordered_map<const ggml_tensor *, std::unique_ptr<PackedMatrix>> packed_;
    std::list<std::vector<float>> converted_;  // until they are uploaded
    ggml_context_ptr mapped_ctx_, upload_ctx_, repack_ctx_, rope_ctx_;
    ggml_backend_dev_t device_;
    ggml_backend_buffer_type_t repack_type_ = nullptr;
    bool host_;
};

}  // namespace chorus
