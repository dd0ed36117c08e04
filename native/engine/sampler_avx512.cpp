// Compiled for AVX-512 alone (CMakeLists.txt), so nothing here may be code that another file could share: no library
// templates, no inline functions of headers but static ones.
#include "sampler_kernels.hpp"

#if defined(__AVX512F__) && defined(__AVX512DQ__)

#include "exp_avx512.hpp"

namespace chorus {

bool has_words() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"); }

namespace {

// Both halves of 16 products of 32 bits.
inline void multiply(__m512i x, uint32_t by, __m512i & high, __m512i & low) {
    const __m512i factor = _mm512_set1_epi64(by);
    const __m512i even = _mm512_mul_epu32(x, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), factor);
    high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    low = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

inline __m512i all(uint32_t word) { return _mm512_set1_epi32(int(word)); }

}  // namespace

double mass_of(const float * logits, int vectors, float best, float floor) {
    __m512d sum = _mm512_setzero_pd();
    for (int i = 0; i < vectors; ++i) {
        const __m512 x = _mm512_loadu_ps(logits + i * WORDS);
        const __mmask16 counts = _mm512_cmp_ps_mask(x, _mm512_set1_ps(floor), _CMP_GT_OQ);
        const __m512 e = _mm512_maskz_mov_ps(counts, exp_of(_mm512_sub_ps(x, _mm512_set1_ps(best))));
        sum = _mm512_add_pd(sum, _mm512_cvtps_pd(_mm512_castps512_ps256(e)));
        sum = _mm512_add_pd(sum, _mm512_cvtps_pd(_mm512_extractf32x8_ps(e, 1)));
    }
    return _mm512_reduce_add_pd(sum);
}

void words_of(uint64_t seed, uint32_t position, const int32_t * tokens, uint32_t * words) {
    __m512i c0 = _mm512_loadu_si512(tokens), c1 = all(position), c2 = _mm512_setzero_si512(), c3 = c2;
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        __m512i a_high, a_low, b_high, b_low;
        multiply(c0, 0xD2511F53u, a_high, a_low);
        multiply(c2, 0xCD9E8D57u, b_high, b_low);
        c0 = _mm512_xor_si512(_mm512_xor_si512(b_high, c1), all(k0));
        c1 = b_low;
        c2 = _mm512_xor_si512(_mm512_xor_si512(a_high, c3), all(k1));
        c3 = a_low;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    _mm512_storeu_si512(words, c0);
}

}  // namespace chorus

#else

namespace chorus {

bool has_words() { return false; }
void words_of(uint64_t, uint32_t, const int32_t *, uint32_t *) {}
double mass_of(const float *, int, float, float) { return 0; }

}  // namespace chorus

#endif
