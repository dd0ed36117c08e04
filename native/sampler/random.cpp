#include "sampler/random.hpp"

#include <cmath>

namespace chorus {

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = uint64_t(0xD2511F53u) * c[0], b = uint64_t(0xCD9E8D57u) * c[2];
        c = {uint32_t(b >> 32) ^ c[1] ^ k[0], uint32_t(b), uint32_t(a >> 32) ^ c[3] ^ k[1], uint32_t(a)};
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    return c;
}

uint32_t word_of(uint64_t seed, uint32_t position, uint32_t token) {
    return philox({token, position, 0, 0}, {uint32_t(seed), uint32_t(seed >> 32)})[0];
}

double gumbel_of(uint32_t word) {
    const double uniform = (double(word) + 0.5) * 0x1p-32;
    return -std::log(-std::log(uniform));
}

// -log(-log u) < -log(1 - u), and 1 - u is not below the power of two under it.
double most_of(uint32_t word) {
    const uint32_t missing = ~word;  // 1 - u, in units of 2^-32, less a half
    const int zeros = missing == 0 ? 32 : __builtin_clz(missing);
    return (zeros + 1) * 0.69314719;
}

}  // namespace chorus
