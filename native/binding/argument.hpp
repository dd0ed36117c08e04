// Checked reading of JavaScript values. A bad one throws a TypeError that names it by its path: "segments[0].tokens".
#pragma once
#include <napi.h>

#include <cmath>
#include <string>
#include <vector>

namespace argument {

[[noreturn]] inline void refuse(Napi::Env env, const std::string & path, const std::string & expected) {
    throw Napi::TypeError::New(env, path + ": expected " + expected);
}

inline Napi::Object object(const Napi::Value & value, const std::string & path) {
    if (!value.IsObject() || value.IsNull()) refuse(value.Env(), path, "an object");
    return value.As<Napi::Object>();
}

inline double number(const Napi::Value & value, const std::string & path, double least, double most) {
    const std::string range = "a number from " + std::to_string(least) + " to " + std::to_string(most);
    if (!value.IsNumber()) refuse(value.Env(), path, range);
    const double n = value.As<Napi::Number>().DoubleValue();
    if (!(n >= least && n <= most)) refuse(value.Env(), path, range + "; got " + std::to_string(n));
    return n;
}

inline int64_t integer(const Napi::Value & value, const std::string & path, int64_t least, int64_t most) {
    const std::string range = "an integer from " + std::to_string(least) + " to " + std::to_string(most);
    if (!value.IsNumber()) refuse(value.Env(), path, range);
    const double n = value.As<Napi::Number>().DoubleValue();
    if (!(n >= double(least) && n <= double(most)) || n != std::floor(n)) refuse(value.Env(), path, range + "; got " + value.ToString().Utf8Value());
    return int64_t(n);
}

inline bool boolean(const Napi::Value & value, const std::string & path) {
    if (!value.IsBoolean()) refuse(value.Env(), path, "true or false");
    return value.As<Napi::Boolean>().Value();
}

inline std::string text(const Napi::Value & value, const std::string & path) {
    if (!value.IsString()) refuse(value.Env(), path, "a string");
    return value.As<Napi::String>().Utf8Value();
}

inline Napi::Array array(const Napi::Value & value, const std::string & path) {
    if (!value.IsArray()) refuse(value.Env(), path, "an array");
    return value.As<Napi::Array>();
}

inline std::vector<int32_t> int32s(const Napi::Value & value, const std::string & path) {
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) refuse(value.Env(), path, "an Int32Array");
    const auto typed = value.As<Napi::Int32Array>();
    return {typed.Data(), typed.Data() + typed.ElementLength()};
}

inline std::vector<uint8_t> bytes(const Napi::Value & value, const std::string & path) {
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) refuse(value.Env(), path, "a Uint8Array");
    const auto typed = value.As<Napi::Uint8Array>();
    return {typed.Data(), typed.Data() + typed.ElementLength()};
}

inline std::vector<int> integers(const Napi::Value & value, const std::string & path, int64_t least, int64_t most) {
    const Napi::Array list = array(value, path);
    std::vector<int> out;
    for (uint32_t i = 0; i < list.Length(); ++i) out.push_back(int(integer(list.Get(i), path + "[" + std::to_string(i) + "]", least, most)));
    return out;
}

}  // namespace argument
