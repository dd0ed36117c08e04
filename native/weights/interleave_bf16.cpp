#include <cstring>

#include "weights/interleave.hpp"

namespace chorus {

size_t bytes_of_group_bf16(Packing, size_t inputs) { return inputs * GROUP * sizeof(uint16_t); }

// A vector holds two consecutive inputs of each of the 16 outputs.
void interleave_bf16(const PackedView & matrix, ggml_type, const uint8_t * rows, uint8_t * to) {
    constexpr size_t PAIR = 2 * sizeof(uint16_t);
    const size_t pairs = size_t(matrix.inputs) / 2;
    for (int group = 0; group < matrix.outputs / GROUP; ++group) {
        const uint8_t * from = rows + size_t(group) * GROUP * pairs * PAIR;
        for (size_t pair = 0; pair < pairs; ++pair) {
            for (size_t o = 0; o < GROUP; ++o, to += PAIR) std::memcpy(to, from + (o * pairs + pair) * PAIR, PAIR);
        }
    }
}

}  // namespace chorus
