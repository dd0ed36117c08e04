// The weights of a shard: its layers as their architecture has them, and what is before the first and after the last.
#pragma once
#include "architectures/architecture.hpp"
#include "weights/tensors.hpp"

namespace chorus {

class Weights {
  public:
    Weights(const Shape & shape, const Shard & shard, const std::vector<TensorSource> & sources, ggml_backend_dev_t device, bool repack,
            int threads, const Progress & progress);

    PackedMatrix * packed(const ggml_tensor * matrix) const { return tensors_.packed(matrix); }
    uint64_t bytes() const { return tensors_.bytes(); }

  private:
    Tensors tensors_;

  public:
    std::unique_ptr<Layers> layers;
    ggml_tensor *embedding = nullptr, *output_norm = nullptr, *output = nullptr, *rope_factors = nullptr;
};

}  // namespace chorus
