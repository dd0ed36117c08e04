// A pass over a batch of rows, of one session or several. h, and the attentions that `attend` kept, stay on the device until
// it ends.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "engine/ops.hpp"
#include "engine/session.hpp"

namespace chorus {

// The rows that a session adds to a pass.
struct Segment {
    std::string session;
    std::vector<int32_t> tokens, parents;
};

// A tensor with memory of its own.
struct Allocated {
    ggml_context_ptr ctx;
    ggml_backend_buffer_ptr buffer;
    ggml_tensor * tensor = nullptr;
};

struct Pass {
    struct Part {
        std::shared_ptr<Session> session;
        int first_row, rows, slot;  // slot of the first row
        std::vector<std::vector<int>> ancestors;  // by row: its slot, its parent's, and so on down to the committed ones
    };
    std::vector<Part> parts;
    std::vector<int32_t> tokens, positions;  // by row
    Allocated h;      // [width, rows]
    Allocated first;  // the h that the last `attend` read; allocated by the first one
    bool has_h = false, has_first = false;
    std::map<int, Allocated> kept;  // A_i by layer

    Pass(ggml_backend_t backend, int width, int rows);

    // The session's next slots become rows.
    void add(std::shared_ptr<Session> session, const Segment & segment);

    int rows() const { return int(tokens.size()); }
    const Part & part_of(int row) const;

    // For a layer's A_i, until the pass ends.
    ggml_tensor * room_for(int layer);
    ggml_tensor * room_for_first();

  private:
    Allocated allocate() const;
    ggml_tensor * allocated(Allocated & room) const;
    ggml_backend_t backend_;
    int width_, batch_;
};

}  // namespace chorus
