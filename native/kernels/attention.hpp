// Attention of one row over the KV that it sees: the kernels of one instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

namespace chorus {

// What a row sees of its session's KV, by slots in the order of their positions: `committed` slots from 0 on, then `more`.
// A slot's keys, and its values, are f16 or f32: [kv_heads, head_dim], `stride` numbers after those of the slot before.
struct Seen {
    const void * keys;
    const void * values;
    bool halves;
    size_t stride;
    int committed;
    const int32_t * more;
    int more_count;
};

struct AttentionKernels {
    bool (*takes)(int head_dim);

    // The heads of one row that share a KV head: q and y [heads, head_dim]. Keys and values of `seen` are those of that head.
    // scores: room for heads * (slots + 16) numbers.
    void (*attend)(const float * q, int heads, int head_dim, float scale, const Seen & seen, float * scores, float * y);

    // Numbers to f16, rounded to the nearest even.
    void (*to_halves)(const float * from, int count, uint16_t * to);
};

}  // namespace chorus
