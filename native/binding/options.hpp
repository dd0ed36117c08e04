// What `load` and `open` are given, read from JavaScript and checked.
#pragma once
#include <napi.h>

#include "engine/engine.hpp"

namespace chorus {

Sampling sampling_of(const Napi::Value & value, const std::string & path, int vocab);
Shard shard_of(const Napi::Value & value, const Shape & shape);
Options options_of(const Napi::Value & value);

}  // namespace chorus
