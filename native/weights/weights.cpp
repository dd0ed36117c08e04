#include "weights/weights.hpp"

namespace chorus {

static const char * const EMBEDDING = "token_embd.weight";

Weights::Weights(const Shape & s, const Shard & shard, const std::vector<TensorSource> & sources, ggml_backend_dev_t device, bool repack,
                 int threads, const Progress & progress)
    : tensors_(sources, device, repack) {
    layers = architecture_of(s.architecture)(tensors_, s, shard);
    if (shard.embed) embedding = tensors_.table(EMBEDDING, s.width, s.vocab);
    if (shard.head) {
        output_norm = tensors_.vector("output_norm.weight", s.width);
        if (tensors_.has("output.weight")) {
            output = tensors_.matrix("output.weight", s.width, s.vocab);
        } else {  // tied to the embedding
            output = tensors_.table(EMBEDDING, s.width, s.vocab);
            tensors_.multiply_too(output, EMBEDDING);
        }
    }
    if (!s.rope_factors.empty()) rope_factors = tensors_.values(s.rope_factors);
    tensors_.load(threads, progress);
    progress(1.0);
}

}  // namespace chorus
