// What an engine is loaded with.
#pragma once
#include "weights/shape.hpp"

namespace chorus {

struct Options {
    Shape shape;
    std::vector<TensorSource> tensors;
    Shard shard;
    std::string device;
    int threads;
    bool deterministic;
    ggml_type kv_type;
};

}  // namespace chorus
