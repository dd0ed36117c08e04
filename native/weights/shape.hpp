// What a model is, as native/index.ts describes it: its sizes, where its tensors lie, and the part that an engine has.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "ggml.h"

namespace chorus {

struct Shape {
    std::string architecture;  // of architectures/architectures.cpp
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

}  // namespace chorus
