// Compiled for AVX-512 with VNNI alone: see kernels.hpp for what that forbids.
#include "avx512.hpp"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

#include <immintrin.h>

#include "rows.hpp"

namespace chorus::avx512 {

namespace {

constexpr size_t AHEAD = 3072;  // bytes that are on their way while others are used
constexpr int ROWS = 8;  // that share a load of the weights: their sums, and eight vectors of weights, fill the registers

// The parts of a row of activations (products.hpp).
struct Row {
    int8_t * quants;
    float * scales;
    int16_t * sums32;
    int16_t * sums16;
};

Row row_at(uint8_t * at, int inputs) {
    const size_t n = size_t(inputs);
    uint8_t * scales = at + in_lines(n);
    uint8_t * sums32 = scales + in_lines(n / BLOCK * sizeof(float));
    uint8_t * sums16 = sums32 + in_lines(n / 32 * sizeof(int16_t));
    return {reinterpret_cast<int8_t *>(at), reinterpret_cast<float *>(scales), reinterpret_cast<int16_t *>(sums32), reinterpret_cast<int16_t *>(sums16)};
}

inline __m512i word_at(const void * at) {
    int word;
    __builtin_memcpy(&word, at, sizeof word);
    return _mm512_set1_epi32(word);
}

inline __m512 halves_at(const uint8_t * at) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(at))); }

inline __m512i vector_at(const uint8_t * at) { return _mm512_loadu_si512(at); }

// QUADS quads of quants of four bits and HIGH more. `low` and `high` begin with the first of them (packed.cpp).
template <int HIGH, int QUADS> inline void unpack(const uint8_t * low, const uint8_t * high, __m512i (&quads)[QUADS]) {
    const __m512i nibble = _mm512_set1_epi8(15);
    for (int i = 0; i < QUADS / 2; ++i) {
        const __m512i two = vector_at(low + 64 * i);
        quads[2 * i] = _mm512_and_si512(two, nibble);
        quads[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(two, 4), nibble);
    }
    if constexpr (HIGH > 0) {
        const __m512i mask = _mm512_set1_epi8(HIGH == 1 ? 0x10 : 0x30);
        const __m512i bits = vector_at(high);
        for (int i = 0; i < QUADS; ++i) {
            const int up = 4 - HIGH * i;
            const __m512i moved = up >= 0 ? _mm512_slli_epi16(bits, unsigned(up)) : _mm512_srli_epi16(bits, unsigned(-up));
            quads[i] = _mm512_or_si512(quads[i], _mm512_and_si512(moved, mask));
        }
    }
}

// The exact sums of products of QUADS quads with one row, for 16 outputs. Two chains, since one would wait for itself.
template <int QUADS> inline __m512i dot(const __m512i (&quads)[QUADS], const int8_t * x) {
    __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
    for (int i = 0; i < QUADS; i += 2) {
        even = _mm512_dpbusd_epi32(even, quads[i], word_at(x + 4 * i));
        odd = _mm512_dpbusd_epi32(odd, quads[i + 1], word_at(x + 4 * i + 4));
    }
    return _mm512_add_epi32(even, odd);
}

// SUBS scales per block. Each has a minimum beside it; or the quants are signed, and 32 was added to each.
template <int R, int HIGH, int SUBS>
void multiply(const PackedView & matrix, const uint8_t * params, const Row * rows, float * y, size_t stride) {
    constexpr bool SIGNED = SUBS == 16;  // q6_K
    constexpr int QUADS = 64 / SUBS;
    constexpr size_t PARAMS = 64 + size_t(SUBS) * 16 * (SIGNED ? 1 : 2), LOW_BYTES = 2048, BYTES = PARAMS + LOW_BYTES + 512 * HIGH, LINES = BYTES / 64;
    __m512 sums[R];
    for (int r = 0; r < R; ++r) sums[r] = _mm512_setzero_ps();
    const int blocks = matrix.inputs / BLOCK;
    for (int b = 0; b < blocks; ++b, params += BYTES) {
        const uint8_t * quants = params + PARAMS;
        const __m512 factor = halves_at(params);
        const __m512 minimum = SIGNED ? _mm512_mul_ps(factor, _mm512_set1_ps(-32.0f)) : _mm512_sub_ps(_mm512_setzero_ps(), halves_at(params + 32));
        __m512 inner[R];
        __m512i below[R];
        for (int r = 0; r < R; ++r) inner[r] = _mm512_setzero_ps(), below[r] = _mm512_setzero_si512();
        for (int pair = 0; pair < SUBS / 2; ++pair) {
            const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(params + 64 + 32 * pair));
            const __m512i scales = SIGNED ? _mm512_cvtepi8_epi16(bytes) : _mm512_cvtepu8_epi16(bytes);
            const __m512i minima = SIGNED ? scales : _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(params + 64 + SUBS * 16 + 32 * pair)));
            for (int r = 0; r < R; ++r) {
                const int16_t * sums = SIGNED ? rows[r].sums16 : rows[r].sums32;
                below[r] = _mm512_dpwssd_epi32(below[r], minima, word_at(sums + SUBS * b + 2 * pair));
            }
            for (int half = 0; half < 2; ++half) {
                const __m512i scale = half == 0 ? _mm512_srai_epi32(_mm512_slli_epi32(scales, 16), 16) : _mm512_srai_epi32(scales, 16);
                const __m512 real = _mm512_mul_ps(_mm512_cvtepi32_ps(scale), factor);
                const int sub = 2 * pair + half;
                for (size_t line = LINES * size_t(sub) / SUBS; line < LINES * size_t(sub + 1) / SUBS; ++line) _mm_prefetch(params + AHEAD + 64 * line, _MM_HINT_T0);
                __m512i quads[QUADS];
                unpack<HIGH, QUADS>(quants + 32 * QUADS * sub, quants + LOW_BYTES + 64 * sub, quads);
                for (int r = 0; r < R; ++r) {
                    const __m512i product = dot<QUADS>(quads, rows[r].quants + BLOCK * b + 4 * QUADS * sub);
                    inner[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product), real, inner[r]);
                }
            }
        }
        for (int r = 0; r < R; ++r) {
            inner[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(below[r]), minimum, inner[r]);
            sums[r] = _mm512_fmadd_ps(inner[r], _mm512_set1_ps(rows[r].scales[b]), sums[r]);
        }
    }
    for (int r = 0; r < R; ++r) _mm512_storeu_ps(y + size_t(r) * stride, sums[r]);
}

template <int R> void multiply_rows(const PackedView & matrix, const uint8_t * params, const Row * rows, float * y, size_t stride) {
    switch (matrix.packing) {
        case Packing::q4_K: return multiply<R, 0, 8>(matrix, params, rows, y, stride);
        case Packing::q5_K: return multiply<R, 1, 8>(matrix, params, rows, y, stride);
        case Packing::q6_K: return multiply<R, 2, 16>(matrix, params, rows, y, stride);
        default: return;
    }
}

// A row of activations in blocks of 32 (products.hpp).
struct Row32 {
    int8_t * quants;
    float * scales;
    float * scaled;
    int32_t * sums;
};

Row32 row_32_at(uint8_t * at, int inputs) {
    const size_t n = size_t(inputs), each = in_lines(n / BLOCK_32 * sizeof(float));
    uint8_t * scales = at + in_lines(n);
    return {reinterpret_cast<int8_t *>(at), reinterpret_cast<float *>(scales), reinterpret_cast<float *>(scales + each), reinterpret_cast<int32_t *>(scales + 2 * each)};
}

// BITS per quant. Each scale has a minimum beside it; or the quants are signed, and half of their range was added to each.
template <int R, int BITS, bool MINIMA> void multiply_32(const PackedView & matrix, const uint8_t * params, const Row32 * rows, float * y, size_t stride) {
    constexpr int QUADS = BLOCK_32 / 4;
    constexpr size_t PARAMS = MINIMA ? 64 : 32, BYTES = 64 * BITS;
    const int blocks = matrix.inputs / BLOCK_32;
    const uint8_t * quants = params + in_lines(size_t(blocks) * PARAMS);
    __m512 sums[R];
    for (int r = 0; r < R; ++r) sums[r] = _mm512_setzero_ps();
    for (int b = 0; b < blocks; ++b, params += PARAMS, quants += BYTES) {
        for (size_t line = 0; line < BYTES / 64; ++line) _mm_prefetch(quants + AHEAD + 64 * line, _MM_HINT_T0);
        const __m512 factor = halves_at(params);
        __m512i quads[QUADS];
        if constexpr (BITS == 8) {
            for (int i = 0; i < QUADS; ++i) quads[i] = vector_at(quants + 64 * i);
        } else {
            unpack<BITS - 4, QUADS>(quants, quants + 256, quads);
        }
        for (int r = 0; r < R; ++r) {
            __m512i product = dot<QUADS>(quads, rows[r].quants + BLOCK_32 * b);
            if constexpr (!MINIMA) product = _mm512_sub_epi32(product, _mm512_set1_epi32(rows[r].sums[b] * (1 << (BITS - 1))));
            sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product), _mm512_mul_ps(factor, _mm512_set1_ps(rows[r].scales[b])), sums[r]);
            if constexpr (MINIMA) sums[r] = _mm512_fmadd_ps(halves_at(params + 32), _mm512_set1_ps(rows[r].scaled[b]), sums[r]);
        }
    }
    for (int r = 0; r < R; ++r) _mm512_storeu_ps(y + size_t(r) * stride, sums[r]);
}

template <int R> void multiply_rows_32(const PackedView & matrix, const uint8_t * params, const Row32 * rows, float * y, size_t stride) {
    switch (matrix.packing) {
        case Packing::q4_0: return multiply_32<R, 4, false>(matrix, params, rows, y, stride);
        case Packing::q4_1: return multiply_32<R, 4, true>(matrix, params, rows, y, stride);
        case Packing::q5_0: return multiply_32<R, 5, false>(matrix, params, rows, y, stride);
        case Packing::q5_1: return multiply_32<R, 5, true>(matrix, params, rows, y, stride);
        case Packing::q8_0: return multiply_32<R, 8, false>(matrix, params, rows, y, stride);
        default: return;
    }
}

float half_of(float x) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT))); }

float largest(const float * x, int count) {
    __m512 most = _mm512_setzero_ps();
    for (int i = 0; i < count; i += 16) most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
    return _mm512_reduce_max_ps(most);
}

// The first value of the largest magnitude, with its sign.
float extreme(const float * x, int count, float magnitude) {
    for (int i = 0; i < count; ++i) {
        if (__builtin_fabsf(x[i]) == magnitude) return x[i];
    }
    return 0;
}

// 16 values as integers, rounded to the nearest even; returns their sum. NaN becomes the least integer, and then the
// least byte: damaged weights compute nonsense, and nothing undefined.
int quantise_16(const float * x, float by, int8_t * to) {
    __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(by)));
    q = _mm512_max_epi32(_mm512_min_epi32(q, _mm512_set1_epi32(127)), _mm512_set1_epi32(-128));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm512_cvtsepi32_epi8(q));
    return _mm512_reduce_add_epi32(q);
}

// As ggml's quantize_row_q8_K.
void quantise_256(const float * x, int inputs, uint8_t * row) {
    const Row to = row_at(row, inputs);
    for (int b = 0; b < inputs / BLOCK; ++b) {
        const float most = extreme(x + BLOCK * b, BLOCK, largest(x + BLOCK * b, BLOCK));
        const float by = most != 0 ? -127.0f / most : 0.0f;
        to.scales[b] = most != 0 ? 1.0f / by : 0.0f;
        for (int i = 16 * b; i < 16 * (b + 1); ++i) {
            to.sums16[i] = int16_t(quantise_16(x + 16 * i, by, to.quants + 16 * i));
            if (i % 2 == 1) to.sums32[i / 2] = int16_t(to.sums16[i - 1] + to.sums16[i]);
        }
    }
}

void multiply_group(const PackedView & matrix, int group, const uint8_t * activations, size_t row_bytes, int rows, float * y, size_t stride) {
    const uint8_t * params = matrix.data + size_t(group) * matrix.group_bytes;
    for_rows<ROWS>(rows, [&](int first, auto count) {
        Row parts[count.rows];
        for (int r = 0; r < count.rows; ++r) parts[r] = row_at(const_cast<uint8_t *>(activations) + size_t(first + r) * row_bytes, matrix.inputs);
        multiply_rows<count.rows>(matrix, params, parts, y + size_t(first) * stride, stride);
    });
}

// As ggml's quantize_row_q8_1, and quantize_row_q8_0, which has no sums.
void quantise_32(const float * x, int inputs, uint8_t * row) {
    const Row32 to = row_32_at(row, inputs);
    for (int b = 0; b < inputs / BLOCK_32; ++b, x += BLOCK_32) {
        const float most = largest(x, BLOCK_32), scale = most / 127.0f, by = most != 0 ? 127.0f / most : 0.0f;
        const int sum = quantise_16(x, by, to.quants + BLOCK_32 * b) + quantise_16(x + 16, by, to.quants + BLOCK_32 * b + 16);
        to.scales[b] = half_of(scale);
        to.scaled[b] = half_of(scale * float(sum));
        to.sums[b] = sum;
    }
}

void multiply_group_32(const PackedView & matrix, int group, const uint8_t * activations, size_t row_bytes, int rows, float * y, size_t stride) {
    const uint8_t * params = matrix.data + size_t(group) * matrix.group_bytes;
    for_rows<ROWS>(rows, [&](int first, auto count) {
        Row32 parts[count.rows];
        for (int r = 0; r < count.rows; ++r) parts[r] = row_32_at(const_cast<uint8_t *>(activations) + size_t(first + r) * row_bytes, matrix.inputs);
        multiply_rows_32<count.rows>(matrix, params, parts, y + size_t(first) * stride, stride);
    });
}

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

constexpr ProductKernels OF_256{quantise_256, multiply_group}, OF_32{quantise_32, multiply_group_32};

}  // namespace

const ProductKernels * products_of_256() { return supported() ? &OF_256 : nullptr; }
const ProductKernels * products_of_32() { return supported() ? &OF_32 : nullptr; }

}  // namespace chorus::avx512

#else

namespace chorus::avx512 {

const ProductKernels * products_of_256() { return nullptr; }
const ProductKernels * products_of_32() { return nullptr; }

}  // namespace chorus::avx512

#endif
