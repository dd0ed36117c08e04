#include "engine/pass.hpp"

#include <algorithm>
#include <stdexcept>

namespace chorus {

Pass::Pass(ggml_backend_t backend, int width, int rows) : backend_(backend), width_(width), batch_(rows) {
    h = allocate();
}

Allocated Pass::allocate() const {
    Allocated made;
    made.ctx.reset(ggml_init({ggml_tensor_overhead() * 2, nullptr, true}));
    made.tensor = ggml_new_tensor_2d(made.ctx.get(), GGML_TYPE_F32, width_, batch_);
    made.buffer.reset(ggml_backend_alloc_ctx_tensors(made.ctx.get(), backend_));
    if (!made.buffer) throw std::runtime_error("not enough memory for a pass");
    return made;
}

void Pass::add(std::shared_ptr<Session> session, const Segment & segment) {
    Session & s = *session;
    const int count = int(segment.tokens.size()), slot = s.used;
    Part part{session, rows(), count, slot, {}};
    for (auto * list : {&s.tokens, &s.positions, &s.parents}) list->resize(size_t(slot));
    for (int i = 0; i < count; ++i) {
        const int parent = segment.parents[size_t(i)];
        const int position = parent < 0 ? 0 : s.positions[size_t(parent)] + 1;
        s.tokens.push_back(segment.tokens[size_t(i)]);
        s.positions.push_back(position);
        s.parents.push_back(parent);
        tokens.push_back(segment.tokens[size_t(i)]);
        positions.push_back(position);
        std::vector<int> ancestors;
        for (int at = slot + i; at >= s.committed; at = s.parents[size_t(at)]) ancestors.push_back(at);
        part.ancestors.push_back(std::move(ancestors));
    }
    s.used = slot + count;
    parts.push_back(std::move(part));
}

const Pass::Part & Pass::part_of(int row) const {
    return *std::find_if(parts.begin(), parts.end(), [&](const Part & part) { return row < part.first_row + part.rows; });
}

ggml_tensor * Pass::room_for(int layer) { return allocated(kept[layer]); }

ggml_tensor * Pass::room_for_first() { return allocated(first); }

ggml_tensor * Pass::allocated(Allocated & room) const {
    if (room.tensor == nullptr) room = allocate();
    return room.tensor;
}

}  // namespace chorus
