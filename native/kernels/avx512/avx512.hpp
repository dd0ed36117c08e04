// The tables of this folder, a file each. Null where the CPU, or the compiler, lacks what the file is compiled for.
#pragma once
#include "kernels/kernels.hpp"

namespace chorus::avx512 {

const AttentionKernels * attention();       // AVX-512 F, DQ
const ProductKernels * products_of_256();   // with BW, VL, VNNI: Intel from Ice Lake on, AMD from Zen 4 on
const ProductKernels * products_of_32();    // the same
const ProductKernels * products_of_bf16();  // F
const SamplerKernels * sampler();           // F, DQ, CD

}  // namespace chorus::avx512
