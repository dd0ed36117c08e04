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
#include <memory>

#include "ggml.h"
#include "kernels/products.hpp"

namespace chorus {

// The size of a row of activations.
size_t bytes_of_row(Activations as, int inputs);

class PackedMatrix {
  public:
    // Whether there are kernels for this CPU, and they take such a matrix: [inputs, outputs], contiguous inputs.
    static bool possible(ggml_type type, int64_t inputs, int64_t outputs);
    PackedMatrix(ggml_type type, int64_t inputs, int64_t outputs, const void * rows);

    // The form that `product` takes x in, which `quantised` makes of it unless it is floats. Matrices that take the same one
    // share a node.
    Activations activations() const { return activations_; }
    static ggml_tensor * quantised(ggml_context * ctx, ggml_tensor * x, Activations as);
    ggml_tensor * product(ggml_context * ctx, ggml_tensor * x);

  private:
    static void compute(ggml_tensor * y, int thread, int threads, void * matrix);

    PackedView view_{};
    Activations activations_;
    std::unique_ptr<uint8_t[], void (*)(void *)> memory_;
};

}  // namespace chorus
