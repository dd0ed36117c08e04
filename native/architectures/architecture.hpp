// An architecture: the tensors that a layer has, and what it computes of them. docs/ARCHITECTURES.md tells how to add one.
#pragma once
#include <memory>
#include <string>

#include "ggml.h"

namespace chorus {

class Blocks;
class Tensors;
struct Shape;
struct Shard;

// The layers of a loaded model.
class Layers {
  public:
    virtual ~Layers() = default;

    // What a layer adds to h, first its attention and then its MLP: [width, rows] from [width, rows], each with the norm in front
    // of it and without the residual. The fuzzy schedule adds an attention later, to a hidden state that does not exist yet.
    virtual ggml_tensor * attention(Blocks & b, int layer, ggml_tensor * h) const = 0;
    virtual ggml_tensor * mlp(Blocks & b, int layer, ggml_tensor * h) const = 0;
};

// Finds the tensors of the shard's layers, or throws std::invalid_argument.
using Architecture = std::unique_ptr<Layers> (*)(Tensors & tensors, const Shape & shape, const Shard & shard);

// By GGUF's name for it (general.architecture); null if there is none of that name.
Architecture architecture_of(const std::string & name);

// The names, in a sentence.
std::string known_architectures();

}  // namespace chorus
