// The kernels of packed.hpp for one instruction set.
#pragma once
#include "weights/packed.hpp"

namespace chorus {

// Whether they were compiled, and this CPU has AVX-512 with VNNI (Intel from Ice Lake on, AMD from Zen 4 on).
bool has_kernels();

// x [inputs] to a row of activations.
void quantise_row(const float * x, int inputs, uint8_t * row);

// y[r * stride + o] for rows r in [0, rows) and the 16 outputs o of a group; `activations` are rows one after the other.
void multiply_group(const PackedView & matrix, int group, const uint8_t * activations, size_t row_bytes, int rows, float * y, size_t stride);

// The same for blocks of 32.
void quantise_row_32(const float * x, int inputs, uint8_t * row);
void multiply_group_32(const PackedView & matrix, int group, const uint8_t * activations, size_t row_bytes, int rows, float * y, size_t stride);

// The same of bf16, with floats as activations: any AVX-512. Two products and sums of floats take the time of one instruction
// for pairs of bf16, or less, and nothing is rounded before it is multiplied.
bool has_bf16_kernels();
void multiply_group_bf16(const PackedView & matrix, int group, const uint8_t * activations, size_t row_bytes, int rows, float * y, size_t stride);

}  // namespace chorus
