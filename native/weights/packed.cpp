#include "weights/packed.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/kernels.hpp"
#include "weights/interleave.hpp"

namespace chorus {

namespace {

constexpr size_t LARGE_PAGE = 2 << 20;

// Inputs of a bf16 matrix. Of wider ones ggml's product is as fast as memory allows, and their file needs no second copy.
constexpr int64_t MOST_NARROW = 1024;

// Formats that are interleaved in one way and multiplied by the same kernels.
struct Family {
    Activations activations;
    int64_t block;  // inputs that belong together
    size_t (*bytes_of_group)(Packing packing, size_t inputs);
    void (*interleave)(const PackedView & matrix, ggml_type type, const uint8_t * rows, uint8_t * to);
};

constexpr Family OF_256{Activations::q8_K, BLOCK, bytes_of_group_256, interleave_256};
constexpr Family OF_32{Activations::q8_1, BLOCK_32, bytes_of_group_32, interleave_32};
constexpr Family OF_BF16{Activations::floats, 2, bytes_of_group_bf16, interleave_bf16};

struct Format {
    ggml_type type;
    Packing packing;
    const Family & family;
};

constexpr Format FORMATS[] = {
    {GGML_TYPE_Q4_K, Packing::q4_K, OF_256}, {GGML_TYPE_Q5_K, Packing::q5_K, OF_256}, {GGML_TYPE_Q6_K, Packing::q6_K, OF_256},
    {GGML_TYPE_Q4_0, Packing::q4_0, OF_32},  {GGML_TYPE_Q4_1, Packing::q4_1, OF_32},  {GGML_TYPE_Q5_0, Packing::q5_0, OF_32},
    {GGML_TYPE_Q5_1, Packing::q5_1, OF_32},  {GGML_TYPE_Q8_0, Packing::q8_0, OF_32},  {GGML_TYPE_BF16, Packing::bf16, OF_BF16},
};

const Format * format_of(ggml_type type) {
    for (const Format & format : FORMATS) {
        if (format.type == type) return &format;
    }
    return nullptr;
}

const ProductKernels * kernels_for(Activations as) { return kernels().products[int(as)]; }

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

}  // namespace

size_t bytes_of_row(Activations as, int inputs) {
    const size_t n = size_t(inputs);
    if (as == Activations::q8_1) return in_lines(n) + 3 * in_lines(n / BLOCK_32 * sizeof(float));
    return in_lines(n) + in_lines(n / BLOCK * sizeof(float)) + in_lines(n / 32 * sizeof(int16_t)) + in_lines(n / 16 * sizeof(int16_t));
}

bool PackedMatrix::possible(ggml_type type, int64_t inputs, int64_t outputs) {
    const Format * format = format_of(type);
    if (format == nullptr || kernels_for(format->family.activations) == nullptr) return false;
    if (format->packing == Packing::bf16 && inputs > MOST_NARROW) return false;
    return outputs % GROUP == 0 && inputs % format->family.block == 0;
}

PackedMatrix::PackedMatrix(ggml_type type, int64_t inputs, int64_t outputs, const void * rows) : memory_(nullptr, std::free) {
    const Format & format = *format_of(type);
    activations_ = format.family.activations;
    view_ = {format.packing, int(inputs), int(outputs), nullptr, format.family.bytes_of_group(format.packing, size_t(inputs))};
    const size_t bytes = size_t(view_.outputs / GROUP) * view_.group_bytes;
    memory_.reset(allocate(bytes));
    view_.data = memory_.get();
    std::memset(memory_.get(), 0, bytes);  // bits are written by or-ing them
    format.family.interleave(view_, type, static_cast<const uint8_t *>(rows), memory_.get());
}

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
    ggml_tensor * sources[] = {x};
    return ggml_custom_4d(ctx, GGML_TYPE_I8, int64_t(bytes_of_row(as, int(x->ne[0]))), x->ne[1], 1, 1, sources, 1, quantise_rows, GGML_N_TASKS_MAX, const_cast<ProductKernels *>(kernels));
}

ggml_tensor * PackedMatrix::product(ggml_context * ctx, ggml_tensor * x) {
    ggml_tensor * sources[] = {x};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, view_.outputs, x->ne[1], 1, 1, sources, 1, compute, GGML_N_TASKS_MAX, this);
}

// A thread has one stretch of the outputs. Several short ones would be fairer where a core is busy, but a third slower where
// a product waits for memory, since nothing is prefetched at the beginning of each.
void PackedMatrix::compute(ggml_tensor * y, int thread, int threads, void * matrix) {
    const auto & own = *static_cast<const PackedMatrix *>(matrix);
    const PackedView & view = own.view_;
    const ggml_tensor * x = y->src[0];
    const int groups = view.outputs / GROUP;
    const auto multiply = kernels_for(own.activations_)->multiply;
    for (int group = groups * thread / threads; group < groups * (thread + 1) / threads; ++group) {
        multiply(view, group, static_cast<const uint8_t *>(x->data), x->nb[1], int(x->ne[1]), static_cast<float *>(y->data) + group * GROUP, size_t(view.outputs));
    }
}

}  // namespace chorus
