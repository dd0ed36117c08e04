// The K types: blocks of 256 inputs, whose scales share a factor.
#include <cstring>

#include "weights/interleave.hpp"

namespace chorus {

namespace {

// A block of one output, unpacked: what the file's formats have in common. value = factor * scale * quant - minimum.
struct Unpacked {
    uint8_t quants[BLOCK];
    uint16_t factor, minimum;  // f16; of the scales, and of the minima
    uint8_t scales[16], minima[16];
};

struct Format {
    int subs;       // scales of a block
    int high;       // bits of a quant beyond the four in the low plane
    bool minima;    // beside the scales
    size_t params;  // bytes of a group's scales in a block
    size_t quants;  // bytes of a group's quants in a block
};

constexpr Format format_of(Packing packing) {
    switch (packing) {
        case Packing::q4_K: return {8, 0, true, 64 + 2 * 128, 2048};
        case Packing::q5_K: return {8, 1, true, 64 + 2 * 128, 2560};
        case Packing::q6_K: return {16, 2, false, 64 + 256, 3072};
        default: return {};
    }
}

uint16_t half_at(const uint8_t * at) {
    uint16_t half;
    std::memcpy(&half, at, sizeof half);
    return half;
}

// The layouts of ggml's blocks (ggml-common.h).
void read_block(Packing packing, const uint8_t * at, Unpacked & block) {
    const auto read_scales = [&](const uint8_t * q) {  // 8 scales and 8 minima of 6 bits in 12 bytes
        for (int j = 0; j < 8; ++j) {
            block.scales[j] = j < 4 ? q[j] & 63 : uint8_t((q[j + 4] & 15) | ((q[j - 4] >> 6) << 4));
            block.minima[j] = j < 4 ? q[j + 4] & 63 : uint8_t((q[j + 4] >> 4) | ((q[j] >> 6) << 4));
        }
    };
    switch (packing) {
        case Packing::q4_K:
        case Packing::q5_K: {
            block.factor = half_at(at);
            block.minimum = half_at(at + 2);
            read_scales(at + 4);
            const uint8_t * qh = packing == Packing::q5_K ? at + 16 : nullptr;
            const uint8_t * qs = at + (qh != nullptr ? 48 : 16);
            for (int j = 0; j < 4; ++j) {  // 64 inputs in 32 bytes
                for (int i = 0; i < 32; ++i) {
                    const int high = qh == nullptr ? 0 : qh[i] >> (2 * j);
                    block.quants[64 * j + i] = uint8_t((qs[32 * j + i] & 15) | ((high & 1) << 4));
                    block.quants[64 * j + 32 + i] = uint8_t((qs[32 * j + i] >> 4) | ((high & 2) << 3));
                }
            }
            return;
        }
        case Packing::q6_K: {
            const uint8_t * ql = at, * qh = at + 128, * scales = at + 192;
            block.factor = half_at(at + 208);
            std::memcpy(block.scales, scales, 16);
            for (int half = 0; half < 2; ++half) {
                for (int i = 0; i < 32; ++i) {
                    const uint8_t low = ql[64 * half + i], low2 = ql[64 * half + 32 + i], high = qh[32 * half + i];
                    uint8_t * to = block.quants + 128 * half + i;
                    to[0] = uint8_t((low & 15) | ((high & 3) << 4));
                    to[32] = uint8_t((low2 & 15) | ((high >> 2 & 3) << 4));
                    to[64] = uint8_t((low >> 4) | ((high >> 4 & 3) << 4));
                    to[96] = uint8_t((low2 >> 4) | ((high >> 6 & 3) << 4));
                }
            }
            return;
        }
        default: return;
    }
}

// A vector holds four consecutive inputs of each of the 16 outputs. The low plane has two such quads a byte, the high plane
// as many as there are bits for.
void write_quants(const Format & format, const Unpacked (&blocks)[GROUP], uint8_t * low) {
    uint8_t * high = low + BLOCK * GROUP / 2;
    const int per_byte = format.high == 0 ? 0 : 8 / format.high;
    for (int quad = 0; quad < BLOCK / 4; ++quad) {
        for (int o = 0; o < GROUP; ++o) {
            for (int i = 0; i < 4; ++i) {
                const uint8_t quant = blocks[o].quants[4 * quad + i];
                const size_t lane = size_t(4 * o + i);
                low[size_t(quad / 2) * LINE + lane] |= uint8_t((quant & 15) << (quad % 2 * 4));
                if (per_byte > 0) high[size_t(quad / per_byte) * LINE + lane] |= uint8_t((quant >> 4) << (quad % per_byte * format.high));
            }
        }
    }
}

// Factors and minima of the 16 outputs; then the scales, and their minima, two and two of an output.
void write_params(const Format & format, const Unpacked (&blocks)[GROUP], uint8_t * to) {
    uint8_t * scales = to + 4 * GROUP, * minima = scales + format.subs * GROUP;
    for (int o = 0; o < GROUP; ++o) {
        std::memcpy(to + 2 * o, &blocks[o].factor, 2);
        if (format.minima) std::memcpy(to + 2 * GROUP + 2 * o, &blocks[o].minimum, 2);
        for (int sub = 0; sub < format.subs; ++sub) {
            const int at = sub / 2 * 2 * GROUP + 2 * o + sub % 2;
            scales[at] = blocks[o].scales[sub];
            if (format.minima) minima[at] = blocks[o].minima[sub];
        }
    }
}

}  // namespace

size_t bytes_of_group_256(Packing packing, size_t inputs) { return inputs / BLOCK * (format_of(packing).params + format_of(packing).quants); }

void interleave_256(const PackedView & matrix, ggml_type type, const uint8_t * rows, uint8_t * data) {
    const Format format = format_of(matrix.packing);
    const size_t blocks = size_t(matrix.inputs / BLOCK);
    const size_t block_bytes = ggml_type_size(type), row_bytes = ggml_row_size(type, matrix.inputs);
    Unpacked unpacked[GROUP] = {};
    for (int64_t group = 0; group < matrix.outputs / GROUP; ++group) {
        for (size_t b = 0; b < blocks; ++b) {
            uint8_t * to = data + size_t(group) * matrix.group_bytes + b * (format.params + format.quants);
            for (int o = 0; o < GROUP; ++o) read_block(matrix.packing, rows + (size_t(group) * GROUP + size_t(o)) * row_bytes + b * block_bytes, unpacked[o]);
            write_params(format, unpacked, to);
            write_quants(format, unpacked, to + format.params);
        }
    }
}

}  // namespace chorus
