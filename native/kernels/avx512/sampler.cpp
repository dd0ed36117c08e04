// Compiled for AVX-512 alone: see kernels.hpp for what that forbids.
#include "avx512.hpp"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512CD__)

#include "exp.hpp"

namespace chorus::avx512 {

namespace {

// Both halves of 16 products of 32 bits.
inline void multiply(__m512i x, uint32_t by, __m512i & high, __m512i & low) {
    const __m512i factor = _mm512_set1_epi64(by);
    const __m512i even = _mm512_mul_epu32(x, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), factor);
    high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    low = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

inline __m512i all(uint32_t word) { return _mm512_set1_epi32(int(word)); }

// The first word of Philox4x32-10, for 16 tokens.
inline __m512i philox_of(__m512i tokens, uint32_t position, uint64_t seed) {
    __m512i c0 = tokens, c1 = all(position), c2 = _mm512_setzero_si512(), c3 = c2;
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
    return c0;
}

// log(2^n (1 + r)) for r in [-1/4, 1/2) (Cephes).
inline __m512 log_of(__m512 n, __m512 r) {
    const __m512 square = _mm512_mul_ps(r, r);
    __m512 p = _mm512_set1_ps(7.0376836292e-2f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-1.1514610310e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.1676998740e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-1.2420140846e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.4249322787e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-1.6668057665e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.0000714765e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-2.4999993993e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(3.3333331174e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, square), r, _mm512_mul_ps(square, _mm512_set1_ps(-0.5f)));
    return _mm512_fmadd_ps(n, _mm512_set1_ps(0.69314718f), _mm512_add_ps(r, p));
}

// n and r of a positive number 2^n (1 + r), its mantissa in [3/4, 3/2).
inline void parts_of(__m512 x, __m512 & n, __m512 & r) {
    const __m512 one = _mm512_set1_ps(1.0f), mantissa = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_zero);
    n = _mm512_getexp_ps(x);
    n = _mm512_mask_add_ps(n, _mm512_cmp_ps_mask(mantissa, one, _CMP_LT_OQ), n, one);
    r = _mm512_sub_ps(mantissa, one);
}

// sampler.cpp's gumbel_of in floats. Near 1 a uniform has too few digits, and is taken by what it lacks.
inline __m512 variate_of(__m512i word) {
    const __m512 unit = _mm512_set1_ps(0x1p-32f), half = _mm512_set1_ps(0x1p-33f);
    const __m512 uniform = _mm512_fmadd_ps(_mm512_cvtepu32_ps(word), unit, half);
    const __m512 missing = _mm512_fmadd_ps(_mm512_cvtepu32_ps(_mm512_xor_si512(word, all(~0u))), unit, half);
    const __mmask16 near = _mm512_cmp_epu32_mask(word, all(0xC0000000u), _MM_CMPINT_NLT);
    __m512 n, r;
    parts_of(uniform, n, r);
    n = _mm512_maskz_mov_ps(_mm512_knot(near), n);
    r = _mm512_mask_sub_ps(r, near, _mm512_setzero_ps(), missing);
    const __m512 rate = _mm512_sub_ps(_mm512_setzero_ps(), log_of(n, r));
    parts_of(rate, n, r);
    return _mm512_sub_ps(_mm512_setzero_ps(), log_of(n, r));
}

inline __m512d add(__m512d sum, __m512 x) {
    sum = _mm512_add_pd(sum, _mm512_cvtps_pd(_mm512_castps512_ps256(x)));
    return _mm512_add_pd(sum, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)));
}

int next_above(const float * logits, int from, int vectors, float floor) {
    const __m512 least = _mm512_set1_ps(floor);
    while (from < vectors && _mm512_cmp_ps_mask(_mm512_loadu_ps(logits + from * WORDS), least, _CMP_GT_OQ) == 0) ++from;
    return from;
}

double mass(const float * logits, int vectors, float best, float per_unit, float floor) {
    __m512d sum = _mm512_setzero_pd();
    for (int i = 0; i < vectors; ++i) {
        const __m512 x = _mm512_loadu_ps(logits + i * WORDS);
        const __mmask16 counts = _mm512_cmp_ps_mask(x, _mm512_set1_ps(floor), _CMP_GT_OQ);
        const __m512 behind = _mm512_mul_ps(_mm512_sub_ps(x, _mm512_set1_ps(best)), _mm512_set1_ps(per_unit));
        sum = add(sum, _mm512_maskz_mov_ps(counts, exp_of(behind)));
    }
    return _mm512_reduce_add_pd(sum);
}

double perturbed_mass(const float * logits, int vectors, float best, float temperature, float highest, uint64_t seed, uint32_t position) {
    const __m512 offset = _mm512_set1_ps(-temperature * highest), weight = _mm512_set1_ps(temperature);
    __m512i token = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512d sum = _mm512_setzero_pd();
    for (int i = 0; i < vectors; ++i, token = _mm512_add_epi32(token, all(WORDS))) {
        const __m512 x = _mm512_loadu_ps(logits + i * WORDS);
        const __m512 behind = _mm512_add_ps(_mm512_sub_ps(x, _mm512_set1_ps(best)), offset);
        const __m512 perturbed = _mm512_fmadd_ps(weight, variate_of(philox_of(token, position, seed)), behind);
        const __mmask16 counts = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
        sum = add(sum, _mm512_maskz_mov_ps(counts, exp_of(_mm512_min_ps(perturbed, _mm512_setzero_ps()))));
    }
    return _mm512_reduce_add_pd(sum);
}

void words(uint64_t seed, uint32_t position, const int32_t * tokens, uint32_t * words) {
    _mm512_storeu_si512(words, philox_of(_mm512_loadu_si512(tokens), position, seed));
}

int argmax(const float * logits, int vectors) {
    __m512 most = _mm512_set1_ps(-__builtin_inff());
    for (int i = 0; i < vectors; ++i) most = _mm512_max_ps(_mm512_loadu_ps(logits + i * WORDS), most);  // of NaN and a number, the second
    const __m512 highest = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int i = 0; i < vectors; ++i) {
        const __mmask16 there = _mm512_cmp_ps_mask(_mm512_loadu_ps(logits + i * WORDS), highest, _CMP_EQ_OQ);
        if (there != 0) return i * WORDS + __builtin_ctz(there);
    }
    return 0;
}

int contenders(const float * logits, int vectors, const Contest & contest, int32_t * tokens, uint32_t * words) {
    const __m512 floor = _mm512_set1_ps(contest.floor), best = _mm512_set1_ps(contest.best);
    const __m512 per_unit = _mm512_set1_ps(contest.per_unit), least = _mm512_set1_ps(contest.least);
    __m512i token = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int count = 0;
    for (int i = 0; i < vectors; ++i, token = _mm512_add_epi32(token, all(WORDS))) {
        const __m512 logit = _mm512_loadu_ps(logits + i * WORDS);
        const __mmask16 near = _mm512_cmp_ps_mask(logit, floor, _CMP_GE_OQ);
        if (near == 0) continue;
        const __m512i word = philox_of(token, contest.position, contest.seed);
        const __m512i zeros = _mm512_lzcnt_epi32(_mm512_xor_si512(word, all(~0u)));
        const __m512 variate = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(zeros, all(1))), _mm512_set1_ps(0.69314719f));  // sampler.cpp's most_of
        const __m512 score = _mm512_add_ps(_mm512_mul_ps(_mm512_sub_ps(logit, best), per_unit), variate);
        const __mmask16 may = _mm512_mask_cmp_ps_mask(near, score, least, _CMP_GE_OQ);
        _mm512_mask_compressstoreu_epi32(tokens + count, may, token);
        _mm512_mask_compressstoreu_epi32(words + count, may, word);
        count += __builtin_popcount(may);
    }
    return count;
}

bool supported() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd"); }

constexpr SamplerKernels TABLE{words, argmax, contenders, next_above, mass, perturbed_mass};

}  // namespace

const SamplerKernels * sampler() { return supported() ? &TABLE : nullptr; }

}  // namespace chorus::avx512

#else

namespace chorus::avx512 {

const SamplerKernels * sampler() { return nullptr; }

}  // namespace chorus::avx512

#endif
