// From the layouts of ggml's files to those of the product kernels (kernels/products.hpp): 16 outputs beside one another.
#pragma once
#include "ggml.h"
#include "kernels/products.hpp"

namespace chorus {

// Of each family of formats: the bytes of 16 outputs, and the whole of a matrix, whose rows lie as ggml has them. `to` is
// zeros before.
size_t bytes_of_group_256(Packing packing, size_t inputs);
void interleave_256(const PackedView & matrix, ggml_type type, const uint8_t * rows, uint8_t * to);

size_t bytes_of_group_32(Packing packing, size_t inputs);
void interleave_32(const PackedView & matrix, ggml_type type, const uint8_t * rows, uint8_t * to);

size_t bytes_of_group_bf16(Packing packing, size_t inputs);
void interleave_bf16(const PackedView & matrix, ggml_type type, const uint8_t * rows, uint8_t * to);

}  // namespace chorus
