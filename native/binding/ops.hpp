// The steps of a stretch: read, then checked against the shard when the call is made, and against each other when they run.
#pragma once
#include <napi.h>

#include "engine/engine.hpp"

namespace chorus {

std::vector<Op> ops_of(const Napi::Value & value);

// Checks that the shard has the layers and the pass the rows that the steps name.
void require_known(Napi::Env env, const std::vector<Op> & ops, const Options & options, int rows);

// On the compute thread, where it is known what earlier stretches left: checks that each step finds what it starts from.
void require_order(const std::vector<Op> & ops, const Pass & pass);

}  // namespace chorus
