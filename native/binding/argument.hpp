// Checked reading of JavaScript values. A bad one throws a TypeError that names it by its path: "segments[0].tokens".
// Reading may run code of the caller's (getters), which may close, dispose or detach anything: read all of a call's
// arguments into plain values first, and only then look at the engine.
#pragma once
#include <napi.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace argument {

[[noreturn]] inline void refuse(Napi::Env env, const std::string & path, const std::string & expected) {
    throw Napi::TypeError::New(env, path + ": expected " + expected);
}

inline std::string shown(double n) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", n);
    return text;
}

inline Napi::Object object(const Napi::Value & value, const std::string & path) {
    if (!value.IsObject()) refuse(value.Env(), path, "an object");
    return value.As<Napi::Object>();
}

inline double number(const Napi::Value & value, const std::string & path, double least, double most) {
    const std::string range = "a number from " + shown(least) + " to " + shown(most);
    if (!value.IsNumber()) refuse(value.Env(), path, range);
    const double n = value.As<Napi::Number>().DoubleValue();
    if (!(n >= least && n <= most)) refuse(value.Env(), path, range + "; got " + shown(n));
    return n;
}

inline int64_t integer(const Napi::Value & value, const std::string & path, int64_t least, int64_t most) {
    const std::string range = "an integer from " + std::to_string(least) + " to " + std::to_string(most);
    if (!value.IsNumber()) refuse(value.Env(), path, range);
    const double n = value.As<Napi::Number>().DoubleValue();
    if (!(n >= double(least) && n <= double(most)) || n != std::floor(n)) refuse(value.Env(), path, range + "; got " + shown(n));
    return int64_t(n);
}

inline bool boolean(const Napi::Value & value, const std::string & path) {
    if (!value.IsBoolean()) refuse(value.Env(), path, "true or false");
    return value.As<Napi::Boolean>().Value();
}

// Names go to functions that stop at a zero byte.
inline std::string text(const Napi::Value & value, const std::string & path) {
    if (!value.IsString()) refuse(value.Env(), path, "a string");
    const std::string text = value.As<Napi::String>().Utf8Value();
    if (text.find('\0') != std::string::npos) refuse(value.Env(), path, "a string without a NUL character");
    return text;
}

inline Napi::Array array(const Napi::Value & value, const std::string & path, uint32_t most) {
    if (!value.IsArray()) refuse(value.Env(), path, "an array");
    const auto array = value.As<Napi::Array>();
    if (array.Length() > most) refuse(value.Env(), path, "at most " + std::to_string(most) + " elements; got " + std::to_string(array.Length()));
    return array;
}

// A copy of a typed array, which may be shared with another thread.
template <typename T> std::vector<T> typed(const Napi::Value & value, const std::string & path, napi_typedarray_type type, const char * expected) {
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) refuse(value.Env(), path, expected);
    const auto given = value.As<Napi::TypedArrayOf<T>>();
    return {given.Data(), given.Data() + given.ElementLength()};
}

inline std::vector<int32_t> int32s(const Napi::Value & value, const std::string & path) { return typed<int32_t>(value, path, napi_int32_array, "an Int32Array"); }
inline std::vector<uint32_t> uint32s(const Napi::Value & value, const std::string & path) { return typed<uint32_t>(value, path, napi_uint32_array, "a Uint32Array"); }
inline std::vector<float> floats(const Napi::Value & value, const std::string & path) { return typed<float>(value, path, napi_float32_array, "a Float32Array"); }
inline std::vector<uint8_t> bytes(const Napi::Value & value, const std::string & path) { return typed<uint8_t>(value, path, napi_uint8_array, "a Uint8Array"); }

inline std::vector<int> integers(const Napi::Value & value, const std::string & path, int64_t least, int64_t most, uint32_t count_most) {
    const Napi::Array list = array(value, path, count_most);
    std::vector<int> out;
    for (uint32_t i = 0; i < list.Length() && i < count_most; ++i) out.push_back(int(integer(list.Get(i), path + "[" + std::to_string(i) + "]", least, most)));
    return out;
}

}  // namespace argument
