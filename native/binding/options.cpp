#include "options.hpp"

#include <algorithm>
#include <cctype>
#include <limits>

#include "argument.hpp"

namespace chorus {

using argument::refuse;

namespace {

constexpr uint32_t MOST_TENSORS = 1 << 16, MOST_TOKENS = 1 << 16;
constexpr int MOST_POSITIONS = std::numeric_limits<int32_t>::max();

// A type that a matrix can be multiplied in: ggml has others, for activations and indices.
bool is_weight_type(ggml_type type) {
    if (ggml_type_name(type) == nullptr || ggml_blck_size(type) <= 0) return false;
    return type == GGML_TYPE_F32 || ggml_get_type_traits(type)->to_float != nullptr;
}

bool same_but_for_case(const std::string & a, const std::string & b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// GGUF writes q4_K where others write q4_k.
ggml_type type_of(const Napi::Value & value, const std::string & path) {
    const std::string name = argument::text(value, path);
    for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
        if (is_weight_type(ggml_type(type)) && same_but_for_case(name, ggml_type_name(ggml_type(type)))) return ggml_type(type);
    }
    refuse(value.Env(), path, "a weight type that ggml knows; got \"" + name + "\"");
}

}  // namespace

namespace {

void penalties_of(const Napi::Value & value, const std::string & path, Sampling & s) {
    if (value.IsUndefined()) return;
    const Napi::Object o = argument::object(value, path);
    s.presence_penalty = argument::number(o.Get("presence"), path + ".presence", -1e6, 1e6);
    s.frequency_penalty = argument::number(o.Get("frequency"), path + ".frequency", -1e6, 1e6);
    s.answer = uint32_t(argument::integer(o.Get("from"), path + ".from", 0, MOST_POSITIONS));
}

std::vector<Bias> bias_of(const Napi::Value & value, const std::string & path, int vocab) {
    std::vector<Bias> out;
    if (value.IsUndefined()) return out;
    const Napi::Array list = argument::array(value, path, MOST_TOKENS);
    for (uint32_t i = 0; i < list.Length() && i < MOST_TOKENS; ++i) {
        const std::string at = path + "[" + std::to_string(i) + "]";
        const Napi::Array pair = argument::array(list.Get(i), at, 2);
        out.push_back({int32_t(argument::integer(pair.Get(0u), at + "[0]", 0, vocab - 1)), argument::number(pair.Get(1u), at + "[1]", -1e6, 1e6)});
    }
    return out;
}

void barred_of(const Napi::Value & value, const std::string & path, int vocab, Sampling & s) {
    if (value.IsUndefined()) return;
    const Napi::Object o = argument::object(value, path);
    for (const int token : argument::integers(o.Get("tokens"), path + ".tokens", 0, vocab - 1, MOST_TOKENS)) s.barred.push_back(token);
    s.barred_before = uint32_t(argument::integer(o.Get("before"), path + ".before", 0, MOST_POSITIONS));
}

}  // namespace

Sampling sampling_of(const Napi::Value & value, const std::string & path, int vocab) {
    const Napi::Object o = argument::object(value, path);
    Sampling s{};
    s.temperature = argument::number(o.Get("temperature"), path + ".temperature", 0, 1e6);
    s.top_k = int(argument::integer(o.Get("topK"), path + ".topK", 0, std::numeric_limits<int32_t>::max()));
    s.top_p = argument::number(o.Get("topP"), path + ".topP", 0, 1);
    s.min_p = argument::number(o.Get("minP"), path + ".minP", 0, 1);
    s.repetition_penalty = argument::number(o.Get("repetitionPenalty"), path + ".repetitionPenalty", 1e-6, 1e6);
    penalties_of(o.Get("penalties"), path + ".penalties", s);
    s.bias = bias_of(o.Get("bias"), path + ".bias", vocab);
    barred_of(o.Get("barred"), path + ".barred", vocab, s);
    const Napi::Value seed = o.Get("seed");
    if (!seed.IsBigInt()) refuse(value.Env(), path + ".seed", "a bigint");
    bool lossless = false;
    s.seed = seed.As<Napi::BigInt>().Uint64Value(&lossless);
    if (!lossless) refuse(value.Env(), path + ".seed", "a bigint from 0 to 2^64 - 1");
    return s;
}

namespace {

Shape shape_of(const Napi::Value & value) {
    const Napi::Object o = argument::object(value, "shape");
    const auto count = [&](const char * name, int64_t most) { return int(argument::integer(o.Get(name), std::string("shape.") + name, 1, most)); };
    Shape s{};
    s.architecture = argument::text(o.Get("architecture"), "shape.architecture");
    if (architecture_of(s.architecture) == nullptr) refuse(value.Env(), "shape.architecture", "one of " + known_architectures() + "; got \"" + s.architecture + "\"");
    s.layers = count("layers", 1024);
    s.width = count("width", 1 << 20);
    s.heads = count("heads", 4096);
    s.kv_heads = count("kvHeads", 4096);
    s.head_dim = count("headDim", 4096);
    s.ffn = count("ffn", 1 << 22);
    s.vocab = count("vocab", 1 << 24);
    s.context = count("context", 1 << 28);
    s.norm_eps = float(argument::number(o.Get("normEps"), "shape.normEps", 0, 1));
    s.rope_theta = float(argument::number(o.Get("ropeTheta"), "shape.ropeTheta", 1, 1e12));
    s.rope_dim = count("ropeDim", s.head_dim);
    const std::string pairs = argument::text(o.Get("ropePairs"), "shape.ropePairs");
    if (pairs != "halves" && pairs != "neighbours") refuse(value.Env(), "shape.ropePairs", "\"halves\" or \"neighbours\"");
    s.rope_neighbours = pairs == "neighbours";
    const Napi::Value factors = o.Get("ropeFactors");
    if (!factors.IsNull()) {
        s.rope_factors = argument::floats(factors, "shape.ropeFactors");
        if (s.rope_factors.size() != size_t(s.rope_dim / 2)) refuse(value.Env(), "shape.ropeFactors", std::to_string(s.rope_dim / 2) + " values");
    }
    if (s.heads % s.kv_heads != 0) refuse(value.Env(), "shape.kvHeads", "a divisor of shape.heads");
    if (s.rope_dim % 2 != 0) refuse(value.Env(), "shape.ropeDim", "an even number");
    return s;
}

std::vector<TensorSource> tensors_of(const Napi::Value & value) {
    const Napi::Array list = argument::array(value, "tensors", MOST_TENSORS);
    std::vector<TensorSource> out;
    for (uint32_t i = 0; i < list.Length() && i < MOST_TENSORS; ++i) {
        const std::string path = "tensors[" + std::to_string(i) + "]";
        const Napi::Object o = argument::object(list.Get(i), path);
        TensorSource t{};
        t.name = argument::text(o.Get("name"), path + ".name");
        t.file = argument::text(o.Get("file"), path + ".file");
        t.offset = uint64_t(argument::integer(o.Get("offset"), path + ".offset", 0, int64_t(1) << 53));
        t.bytes = uint64_t(argument::integer(o.Get("bytes"), path + ".bytes", 0, int64_t(1) << 53));
        t.type = type_of(o.Get("type"), path + ".type");
        for (const int n : argument::integers(o.Get("shape"), path + ".shape", 1, std::numeric_limits<int32_t>::max(), 4)) t.shape.push_back(n);
        if (t.shape.empty()) refuse(value.Env(), path + ".shape", "one to four sizes");
        out.push_back(std::move(t));
    }
    return out;
}

}  // namespace

Shard shard_of(const Napi::Value & value, const Shape & shape) {
    const Napi::Object o = argument::object(value, "shard");
    Shard s{std::vector<bool>(size_t(shape.layers)), std::vector<bool>(size_t(shape.layers)), false, false};
    for (const int i : argument::integers(o.Get("attention"), "shard.attention", 0, shape.layers - 1, uint32_t(shape.layers))) s.attention[size_t(i)] = true;
    for (const int i : argument::integers(o.Get("mlp"), "shard.mlp", 0, shape.layers - 1, uint32_t(shape.layers))) s.mlp[size_t(i)] = true;
    s.embed = argument::boolean(o.Get("embed"), "shard.embed");
    s.head = argument::boolean(o.Get("head"), "shard.head");
    return s;
}

Options options_of(const Napi::Value & value) {
    const Napi::Env env = value.Env();
    const Napi::Object o = argument::object(value, "options");
    Options options{};
    options.shape = shape_of(o.Get("shape"));
    options.tensors = tensors_of(o.Get("tensors"));
    options.shard = shard_of(o.Get("shard"), options.shape);
    options.device = argument::text(o.Get("device"), "device");
    if (ggml_backend_dev_by_name(options.device.c_str()) == nullptr) refuse(env, "device", "a device's name; got \"" + options.device + "\"");
    options.threads = int(argument::integer(o.Get("threads"), "threads", 1, 512));
    options.deterministic = argument::boolean(o.Get("deterministic"), "deterministic");
    const std::string kv = argument::text(o.Get("kvType"), "kvType");
    if (kv != "f16" && kv != "f32") refuse(env, "kvType", "\"f16\" or \"f32\"; got \"" + kv + "\"");
    options.kv_type = kv == "f16" ? GGML_TYPE_F16 : GGML_TYPE_F32;
    return options;
}

}  // namespace chorus
