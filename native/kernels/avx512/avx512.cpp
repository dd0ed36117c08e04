#include "avx512.hpp"

namespace chorus::avx512 {

Kernels kernels() { return {attention(), {products_of_256(), products_of_32(), products_of_bf16()}, sampler()}; }

}  // namespace chorus::avx512
