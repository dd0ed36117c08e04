// Kernels of our own: tables of functions, from one folder for each instruction set. Which of them run is decided once, by what
// the CPU has. Without such a table ggml computes, and the sampler goes through the logits one by one.
//
// A folder's files are compiled for their instruction set, and the linker keeps one copy of a function that several files
// share. So they include nothing but plain data and what is static: else code for one CPU would run on every other.
#pragma once
#include "kernels/attention.hpp"
#include "kernels/products.hpp"
#include "kernels/sampler.hpp"

namespace chorus {

// Null where the CPU lacks what the kernels need, or the compiler did.
struct Kernels {
    const AttentionKernels * attention;
    const ProductKernels * products[ACTIVATIONS];  // by Activations
    const SamplerKernels * sampler;
};

// Of each kind, those of the first instruction set in kernels.cpp that has them on this CPU.
const Kernels & kernels();

}  // namespace chorus
