// Products of matrices with rows of activations, in which a row's result is the same bits in every batch.
//
// ggml has two ways for such a product on a CPU: one reads the file's layout, keeps rows invariant and leaves half of the
// machine's speed unused; the other interleaves the weights and takes different paths, with different roundings, for one
// row and for several. Here the weights of 16 outputs are interleaved too, and there is one path: for every (row, output)
// the same operations in the same order, however many rows share a load of the weights. Products within a block are exact
// integers; only the sums over blocks are rounded. Activations are quantised as ggml quantises them (q8_K).
//
// Narrow matrices of bf16 are interleaved as well: where a row is short, ggml spends most of its time on adding up the lanes
// of its vectors. Activations stay floats, which ggml rounds to bf16.
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

enum class Packing { q4_K, q5_K, q6_K, bf16 };

// Plain data for the kernels: they are compiled for one instruction set and so include no library code.
struct PackedView {
    Packing packing;
    int inputs, outputs;
    const uint8_t * data;
    size_t group_bytes;  // of 16 outputs: block after block, each with its scales first
};

// A row of activations as 8-bit integers, for the K types:
//   int8  quants[inputs]
//   float scales[inputs / 256]
//   int16 sums32[inputs / 32], sums16[inputs / 16]   of each 32 quants, and of each 16
size_t bytes_of_row(int inputs);

class PackedMatrix {
  public:
    // Whether this CPU has the kernels, and they take such a matrix: [inputs, outputs], contiguous inputs.
    static bool possible(ggml_type type, int64_t inputs, int64_t outputs);
    PackedMatrix(ggml_type type, int64_t inputs, int64_t outputs, const void * rows);

    const PackedView & view() const { return view_; }
    size_t bytes() const;

    // Whether `product` takes x as integers: one node for all the matrices that x is multiplied with.
    bool takes_integers() const { return view_.packing != Packing::bf16; }
    static ggml_tensor * quantised(ggml_context * ctx, ggml_tensor * x);
    ggml_tensor * product(ggml_context * ctx, ggml_tensor * x);

  private:
    static void compute(ggml_tensor * y, int thread, int threads, void * matrix);
    void pack_bf16(const uint8_t * rows);
    void pack_blocks(ggml_type type, const uint8_t * rows);

    PackedView view_;
    std::unique_ptr<uint8_t[], void (*)(void *)> memory_;
};

}  // namespace chorus
