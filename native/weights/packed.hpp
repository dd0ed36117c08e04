// Products of matrices with rows of activations, in which a row's result is the same bits in every batch.
//
// ggml has two ways for such a product on a CPU: one reads the file's layout, keeps rows invariant and leaves half of the
// machine's speed unused; the other interleaves the weights and takes different paths, with different roundings, for one
// row and for several. Here the weights of 16 outputs are interleaved too, and there is one path: for every (row, output)
// the same operations in the same order, however many rows share a load of the weights. Products within a block are exact
// integers; only the sums over blocks are rounded. Activations are quantised as ggml quantises them.
//
// Narrow matrices of bf16 are interleaved as well: where a row is short, ggml spends most of its time on adding up the lanes
// of its vectors. Activations stay floats, which ggml rounds to bf16.
//
// So are the older formats with blocks of 32: where several rows share the weights, that is several times as fast.
//
// Of the other types ggml has one layout, whose rows are invariant as it is.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "ggml.h"

namespace chorus {

constexpr int GROUP = 16;  // outputs that are interleaved: the lanes of a vector of floats

constexpr int BLOCK = 256;  // inputs that share a factor of their scales

constexpr int BLOCK_32 = 32;  // the same of the older formats

enum class Packing { q4_K, q5_K, q6_K, q4_0, q4_1, q5_0, q5_1, q8_0, bf16 };

enum class Activations { q8_K, q8_1, floats };  // the first two as ggml has them

// Plain data for the kernels: they are compiled for one instruction set and so include no library code.
struct PackedView {
    Packing packing;
    int inputs, outputs;
    const uint8_t * data;
    size_t group_bytes;  // of 16 outputs: of K types block after block, each with its scales first; else all scales first
};

// A row of activations as 8-bit integers. For the K types:
//   int8  quants[inputs]
//   float scales[inputs / 256]
//   int16 sums32[inputs / 32], sums16[inputs / 16]   of each 32 quants, and of each 16
// For blocks of 32, the scales and what they make of the sums being numbers of 16 bits:
//   int8  quants[inputs]
//   float scales[inputs / 32], scaled[inputs / 32]   of a block, and times the sum of its quants
//   int32 sums[inputs / 32]
size_t bytes_of_row(Activations as, int inputs);

class PackedMatrix {
  public:
    // Whether this CPU has the kernels, and they take such a matrix: [inputs, outputs], contiguous inputs.
    static bool possible(ggml_type type, int64_t inputs, int64_t outputs);
    PackedMatrix(ggml_type type, int64_t inputs, int64_t outputs, const void * rows);

    const PackedView & view() const { return view_; }
    size_t bytes() const;

    // As what `product` takes x: one node for all the matrices that take it so.
    Activations activations() const;
    static ggml_tensor * quantised(ggml_context * ctx, ggml_tensor * x, Activations as);
    ggml_tensor * product(ggml_context * ctx, ggml_tensor * x);

  private:
    static void compute(ggml_tensor * y, int thread, int threads, void * matrix);
    void pack_bf16(const uint8_t * rows);
    void pack_32(ggml_type type, const uint8_t * rows);
    void pack_blocks(ggml_type type, const uint8_t * rows);

    PackedView view_;
    std::unique_ptr<uint8_t[], void (*)(void *)> memory_;
};

}  // namespace chorus
