// The older formats: blocks of 32 inputs with a scale each.
#include <cstring>

#include "weights/interleave.hpp"

namespace chorus {

namespace {

struct Format32 {
    int bits;
    bool minima;  // beside the scales; else the quants are signed, and half of their range was added
    size_t params() const { return minima ? 64 : 32; }
    size_t quants() const { return GROUP * BLOCK_32 * size_t(bits) / 8; }
};

constexpr Format32 format_32_of(Packing packing) {
    switch (packing) {
        case Packing::q4_0: return {4, false};
        case Packing::q4_1: return {4, true};
        case Packing::q5_0: return {5, false};
        case Packing::q5_1: return {5, true};
        default: return {8, false};
    }
}

// One output's block, in the layouts of ggml's (ggml-common.h). Quants lie as those of the K types do (write_quants): four
// consecutive inputs of each output are a vector, two such quads a byte of the low plane, eight one of the high plane.
void write_32(const Format32 & format, const uint8_t * from, size_t output, uint8_t * params, uint8_t * quants) {
    std::memcpy(params + 2 * output, from, 2);
    if (format.minima) std::memcpy(params + 2 * GROUP + 2 * output, from + 2, 2);
    const uint8_t * high = from + (format.minima ? 4 : 2), * low = high + (format.bits == 5 ? 4 : 0);
    for (size_t i = 0; i < BLOCK_32; ++i) {
        const size_t quad = i / 4, lane = 4 * output + i % 4;
        if (format.bits == 8) {
            quants[quad * LINE + lane] = low[i] ^ 0x80;
            continue;
        }
        const int quant = i < 16 ? low[i] & 15 : low[i - 16] >> 4;
        quants[quad / 2 * LINE + lane] |= uint8_t(quant << (quad % 2 * 4));
        if (format.bits == 5) quants[GROUP * BLOCK_32 / 2 + lane] |= uint8_t((high[i / 8] >> (i % 8) & 1) << quad);
    }
}

}  // namespace

size_t bytes_of_group_32(Packing packing, size_t inputs) {
    const Format32 format = format_32_of(packing);
    return in_lines(inputs / BLOCK_32 * format.params()) + inputs / BLOCK_32 * format.quants();
}

// Scales, and minima beside them, of all blocks; then their quants.
void interleave_32(const PackedView & matrix, ggml_type type, const uint8_t * rows, uint8_t * data) {
    const Format32 format = format_32_of(matrix.packing);
    const size_t blocks = size_t(matrix.inputs) / BLOCK_32, row_bytes = ggml_row_size(type, matrix.inputs), block_bytes = ggml_type_size(type);
    for (size_t group = 0; group < size_t(matrix.outputs / GROUP); ++group) {
        uint8_t * params = data + group * matrix.group_bytes, * quants = params + in_lines(blocks * format.params());
        for (size_t b = 0; b < blocks; ++b, params += format.params(), quants += format.quants()) {
            for (size_t o = 0; o < GROUP; ++o) write_32(format, rows + (group * GROUP + o) * row_bytes + b * block_bytes, o, params, quants);
        }
    }
}

}  // namespace chorus
