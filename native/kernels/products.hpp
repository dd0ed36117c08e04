// Products of an interleaved matrix (weights/packed.hpp) with rows of activations: the kernels of one instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

namespace chorus {

constexpr int GROUP = 16;  // outputs that are interleaved: the lanes of a vector of floats

constexpr int BLOCK = 256;  // inputs that share a factor of their scales

constexpr int BLOCK_32 = 32;  // the same of the older formats

enum class Packing { q4_K, q5_K, q6_K, q4_0, q4_1, q5_0, q5_1, q8_0, bf16 };

struct PackedView {
    Packing packing;
    int inputs, outputs;
    const uint8_t * data;
    size_t group_bytes;  // of 16 outputs: of K types block after block, each with its scales first; else all scales first
};

// What a matrix is multiplied with. A row of q8_K, for the K types:
//   int8  quants[inputs]
//   float scales[inputs / 256]
//   int16 sums32[inputs / 32], sums16[inputs / 16]   of each 32 quants, and of each 16
// A row of q8_1, for blocks of 32; the scales, and what they make of the sums, are numbers of 16 bits:
//   int8  quants[inputs]
//   float scales[inputs / 32], scaled[inputs / 32]   of a block, and times the sum of its quants
//   int32 sums[inputs / 32]
// bf16 is multiplied with the floats as they are. Two products and sums of floats take the time of one instruction for pairs of
// bf16, or less, and nothing is rounded before it is multiplied.
enum class Activations { q8_K, q8_1, floats };
constexpr int ACTIVATIONS = 3;

// Each part of a row begins at a multiple of this, as does each group's data.
constexpr size_t LINE = 64;
static constexpr size_t in_lines(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

// For one kind of activations, and all matrices that are multiplied with it.
struct ProductKernels {
    // x [inputs] to a row of activations; null where they are floats.
    void (*quantise)(const float * x, int inputs, uint8_t * row);

    // y[r * stride + o] for rows r in [0, rows) and the 16 outputs o of a group; `activations` are rows one after the other. For
    // each (row, output) the same operations in the same order, however many rows there are.
    void (*multiply)(const PackedView & matrix, int group, const uint8_t * activations, size_t row_bytes, int rows, float * y, size_t stride);
};

}  // namespace chorus
