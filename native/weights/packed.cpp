#include "weights/packed.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/kernels.hpp"

namespace chorus {

namespace {

constexpr size_t LARGE_PAGE = 2 << 20;

// Inputs of a bf16 matrix. Of wider ones ggml's product is as fast as memory allows, and their file needs no second copy.
constexpr int64_t MOST_NARROW = 1024;

bool packing_of(ggml_type type, Packing & packing) {
    switch (type) {
        case GGML_TYPE_Q4_K: packing = Packing::q4_K; return true;
        case GGML_TYPE_Q5_K: packing = Packing::q5_K; return true;
        case GGML_TYPE_Q6_K: packing = Packing::q6_K; return true;
        case GGML_TYPE_Q4_0: packing = Packing::q4_0; return true;
        case GGML_TYPE_Q4_1: packing = Packing::q4_1; return true;
        case GGML_TYPE_Q5_0: packing = Packing::q5_0; return true;
        case GGML_TYPE_Q5_1: packing = Packing::q5_1; return true;
        case GGML_TYPE_Q8_0: packing = Packing::q8_0; return true;
        case GGML_TYPE_BF16: packing = Packing::bf16; return true;
        default: return false;
    }
}

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

bool is_32(Packing packing) {
    switch (packing) {
        case Packing::q4_0:
        case Packing::q4_1:
        case Packing::q5_0:
        case Packing::q5_1:
        case Packing::q8_0: return true;
        default: return false;
    }
}

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

size_t bytes_of_group(Packing packing, size_t inputs) {
    if (packing == Packing::bf16) return inputs * GROUP * sizeof(uint16_t);
    if (!is_32(packing)) return inputs / BLOCK * (format_of(packing).params + format_of(packing).quants);
    const Format32 format = format_32_of(packing);
    return in_lines(inputs / BLOCK_32 * format.params()) + inputs / BLOCK_32 * format.quants();
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

// On large pages where the system has them: weights are read from end to end, and a small page ends every prefetch.
uint8_t * allocate(size_t bytes) {
    const size_t alignment = bytes < LARGE_PAGE ? LINE : LARGE_PAGE;
    void * memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (memory == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
#endif
    return static_cast<uint8_t *>(memory);
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

size_t bytes_of_row(Activations as, int inputs) {
    const size_t n = size_t(inputs);
    if (as == Activations::q8_1) return in_lines(n) + 3 * in_lines(n / BLOCK_32 * sizeof(float));
    return in_lines(n) + in_lines(n / BLOCK * sizeof(float)) + in_lines(n / 32 * sizeof(int16_t)) + in_lines(n / 16 * sizeof(int16_t));
}

static Activations activations_of(Packing packing) {
    if (packing == Packing::bf16) return Activations::floats;
    return is_32(packing) ? Activations::q8_1 : Activations::q8_K;
}

static const ProductKernels * kernels_for(Activations as) { return kernels().products[int(as)]; }

bool PackedMatrix::possible(ggml_type type, int64_t inputs, int64_t outputs) {
    Packing packing;
    if (!packing_of(type, packing) || outputs % GROUP != 0 || kernels_for(activations_of(packing)) == nullptr) return false;
    if (packing == Packing::bf16) return inputs % 2 == 0 && inputs <= MOST_NARROW;
    return inputs % (is_32(packing) ? BLOCK_32 : BLOCK) == 0;
}

PackedMatrix::PackedMatrix(ggml_type type, int64_t inputs, int64_t outputs, const void * rows) : view_{}, memory_(nullptr, std::free) {
    packing_of(type, view_.packing);
    view_.inputs = int(inputs);
    view_.outputs = int(outputs);
    view_.group_bytes = bytes_of_group(view_.packing, size_t(inputs));
    memory_.reset(allocate(bytes()));
    view_.data = memory_.get();
    if (view_.packing == Packing::bf16) {
        pack_bf16(static_cast<const uint8_t *>(rows));
    } else if (is_32(view_.packing)) {
        pack_32(type, static_cast<const uint8_t *>(rows));
    } else {
        pack_blocks(type, static_cast<const uint8_t *>(rows));
    }
}

// Scales, and minima beside them, of all blocks; then their quants.
void PackedMatrix::pack_32(ggml_type type, const uint8_t * rows) {
    const Format32 format = format_32_of(view_.packing);
    const size_t blocks = size_t(view_.inputs) / BLOCK_32, row_bytes = ggml_row_size(type, view_.inputs), block_bytes = ggml_type_size(type);
    std::memset(memory_.get(), 0, bytes());
    for (size_t group = 0; group < size_t(view_.outputs / GROUP); ++group) {
        uint8_t * params = memory_.get() + group * view_.group_bytes, * quants = params + in_lines(blocks * format.params());
        for (size_t b = 0; b < blocks; ++b, params += format.params(), quants += format.quants()) {
            for (size_t o = 0; o < GROUP; ++o) write_32(format, rows + (group * GROUP + o) * row_bytes + b * block_bytes, o, params, quants);
        }
    }
}

// A vector holds two consecutive inputs of each of the 16 outputs.
void PackedMatrix::pack_bf16(const uint8_t * rows) {
    constexpr size_t PAIR = 2 * sizeof(uint16_t);
    const size_t pairs = size_t(view_.inputs) / 2;
    uint8_t * to = memory_.get();
    for (int group = 0; group < view_.outputs / GROUP; ++group) {
        const uint8_t * from = rows + size_t(group) * GROUP * pairs * PAIR;
        for (size_t pair = 0; pair < pairs; ++pair) {
            for (size_t o = 0; o < GROUP; ++o, to += PAIR) std::memcpy(to, from + (o * pairs + pair) * PAIR, PAIR);
        }
    }
}

void PackedMatrix::pack_blocks(ggml_type type, const uint8_t * from) {
    const Format format = format_of(view_.packing);
    const size_t blocks = size_t(view_.inputs / BLOCK);
    const size_t block_bytes = ggml_type_size(type), row_bytes = ggml_row_size(type, view_.inputs);
    std::memset(memory_.get(), 0, bytes());
    Unpacked unpacked[GROUP] = {};
    for (int64_t group = 0; group < view_.outputs / GROUP; ++group) {
        for (size_t b = 0; b < blocks; ++b) {
            uint8_t * to = memory_.get() + size_t(group) * view_.group_bytes + b * (format.params + format.quants);
            for (int o = 0; o < GROUP; ++o) read_block(view_.packing, from + (size_t(group) * GROUP + size_t(o)) * row_bytes + b * block_bytes, unpacked[o]);
            write_params(format, unpacked, to);
            write_quants(format, unpacked, to + format.params);
        }
    }
}

size_t PackedMatrix::bytes() const { return size_t(view_.outputs / GROUP) * view_.group_bytes; }

Activations PackedMatrix::activations() const { return activations_of(view_.packing); }

static void quantise_rows(ggml_tensor * rows, int thread, int threads, void * kernels) {
    const auto quantise = static_cast<const ProductKernels *>(kernels)->quantise;
    const ggml_tensor * x = rows->src[0];
    for (int64_t r = thread; r < x->ne[1]; r += threads) {
        const auto * from = static_cast<const char *>(x->data) + size_t(r) * x->nb[1];
        quantise(reinterpret_cast<const float *>(from), int(x->ne[0]), static_cast<uint8_t *>(rows->data) + size_t(r) * rows->nb[1]);
    }
}

ggml_tensor * PackedMatrix::quantised(ggml_context * ctx, ggml_tensor * x, Activations as) {
    const ProductKernels * kernels = kernels_for(as);
    if (kernels->quantise == nullptr) return x;
    ggml_tensor * sources[] = {x};
    return ggml_custom_4d(ctx, GGML_TYPE_I8, int64_t(bytes_of_row(as, int(x->ne[0]))), x->ne[1], 1, 1, sources, 1, quantise_rows, GGML_N_TASKS_MAX, const_cast<ProductKernels *>(kernels));
}

ggml_tensor * PackedMatrix::product(ggml_context * ctx, ggml_tensor * x) {
    ggml_tensor * sources[] = {x};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, view_.outputs, x->ne[1], 1, 1, sources, 1, compute, GGML_N_TASKS_MAX, this);
}

// A thread has one stretch of the outputs: several short ones would be fairer where a core is busy, and are a third slower
// where memory is what a product waits for, since each begins with nothing on its way.
void PackedMatrix::compute(ggml_tensor * y, int thread, int threads, void * matrix) {
    const PackedView & view = static_cast<const PackedMatrix *>(matrix)->view_;
    const ggml_tensor * x = y->src[0];
    const int groups = view.outputs / GROUP;
    const auto multiply = kernels_for(activations_of(view.packing))->multiply;
    for (int group = groups * thread / threads; group < groups * (thread + 1) / threads; ++group) {
        multiply(view, group, static_cast<const uint8_t *>(x->data), x->nb[1], int(x->ne[1]), static_cast<float *>(y->data) + group * GROUP, size_t(view.outputs));
    }
}

}  // namespace chorus
