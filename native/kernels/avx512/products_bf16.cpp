// Compiled for AVX-512 alone: see kernels.hpp for what that forbids.
#include "avx512.hpp"

#if defined(__AVX512F__)

#include <immintrin.h>

#include "rows.hpp"

namespace chorus::avx512 {

namespace {

constexpr size_t AHEAD = 3072;  // bytes that are on their way while others are used
constexpr int ROWS = 12;  // that share a load of the weights: two sums each fill the registers, with a few vectors of weights

// Two chains, of the even and of the odd inputs: one would wait for itself. A bf16 is the upper half of the float that it is.
template <int R> void multiply(const uint8_t * weights, int inputs, const uint8_t * activations, size_t row_bytes, float * y, size_t stride) {
    const float * x[R];
    __m512 even[R], odd[R];
    for (int r = 0; r < R; ++r) {
        x[r] = reinterpret_cast<const float *>(activations + size_t(r) * row_bytes);
        even[r] = odd[r] = _mm512_setzero_ps();
    }
    const __m512i upper = _mm512_set1_epi32(int(0xffff0000u));
    for (int i = 0; i < inputs; i += 2, weights += 64) {
        _mm_prefetch(weights + AHEAD, _MM_HINT_T0);
        const __m512i pairs = _mm512_loadu_si512(weights);
        const __m512 first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), second = _mm512_castsi512_ps(_mm512_and_si512(pairs, upper));
        for (int r = 0; r < R; ++r) {
            even[r] = _mm512_fmadd_ps(first, _mm512_set1_ps(x[r][i]), even[r]);
            odd[r] = _mm512_fmadd_ps(second, _mm512_set1_ps(x[r][i + 1]), odd[r]);
        }
    }
    for (int r = 0; r < R; ++r) _mm512_storeu_ps(y + size_t(r) * stride, _mm512_add_ps(even[r], odd[r]));
}

void multiply_group(const PackedView & matrix, int group, const uint8_t * activations, size_t row_bytes, int rows, float * y, size_t stride) {
    const uint8_t * weights = matrix.data + size_t(group) * matrix.group_bytes;
    for_rows<ROWS>(rows, [&](int first, auto count) {
        multiply<count.rows>(weights, matrix.inputs, activations + size_t(first) * row_bytes, row_bytes, y + size_t(first) * stride, stride);
    });
}

constexpr ProductKernels TABLE{nullptr, multiply_group};

}  // namespace

const ProductKernels * products_of_bf16() { return __builtin_cpu_supports("avx512f") ? &TABLE : nullptr; }

}  // namespace chorus::avx512

#else

namespace chorus::avx512 {

const ProductKernels * products_of_bf16() { return nullptr; }

}  // namespace chorus::avx512

#endif
