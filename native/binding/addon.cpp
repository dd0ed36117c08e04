// The addon's exports, which native/index.ts describes. Argument checks and conversion only.
#include <napi.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <mutex>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "argument.hpp"
#include "engine_object.hpp"
#include "options.hpp"
#include "pass_object.hpp"
#include "sampler/random.hpp"

namespace chorus {

using argument::refuse;

namespace {

constexpr size_t MOST_LOGITS = 1 << 24;  // as many as a vocabulary may have

// Once per process: ggml never unloads its backends.
Napi::Value LoadBackends(const Napi::CallbackInfo & info) {
    static std::mutex mutex;
    static std::string loaded;
    const std::string folder = argument::text(info[0], "folder");
    std::lock_guard lock(mutex);
    if (loaded.empty()) {
        ggml_log_set([](ggml_log_level level, const char * text, void *) { if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr); }, nullptr);
        ggml_backend_load_all_from_path(folder.c_str());
        if (ggml_backend_dev_count() == 0) throw Napi::Error::New(info.Env(), "folder: " + folder + " holds no backend of ggml that runs here. Run `npm run setup`.");
        Held::stop_before_exit();
        loaded = folder;
    } else if (loaded != folder) {
        throw Napi::Error::New(info.Env(), "folder: backends were loaded from " + loaded + " already");
    }
    return info.Env().Undefined();
}

// "icelake", if this process has mapped .../libggml-cpu-icelake.so.
std::string variant_of(ggml_backend_dev_t device) {
    if (ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU) return ggml_backend_dev_description(device);
    std::ifstream maps("/proc/self/maps");
    const std::string mark = "ggml-cpu-";
    for (std::string line; std::getline(maps, line);) {
        const auto at = line.rfind(mark);
        if (at == std::string::npos) continue;
        const auto from = at + mark.size();
        return line.substr(from, line.find('.', from) - from);
    }
    return "cpu";
}

Napi::Value Devices(const Napi::CallbackInfo & info) {
    auto out = Napi::Array::New(info.Env());
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        const auto type = ggml_backend_dev_type(device);
        if (type != GGML_BACKEND_DEVICE_TYPE_CPU && type != GGML_BACKEND_DEVICE_TYPE_GPU && type != GGML_BACKEND_DEVICE_TYPE_IGPU) continue;
        size_t free = 0, total = 0;
        ggml_backend_dev_memory(device, &free, &total);
        auto o = Napi::Object::New(info.Env());
        o.Set("name", ggml_backend_dev_name(device));
        o.Set("description", ggml_backend_dev_description(device));
        o.Set("kind", type == GGML_BACKEND_DEVICE_TYPE_CPU ? "cpu" : "gpu");
        o.Set("variant", variant_of(device));
        o.Set("memoryFree", double(free));
        o.Set("memoryTotal", double(total));
        out.Set(out.Length(), o);
    }
    return out;
}

using Progress = std::shared_ptr<Napi::ThreadSafeFunction>;

Progress progress_of(const Napi::Value & value) {
    if (value.IsUndefined()) return nullptr;
    if (!value.IsFunction()) refuse(value.Env(), "progress", "a function");
    return {new Napi::ThreadSafeFunction(Napi::ThreadSafeFunction::New(value.Env(), value.As<Napi::Function>(), "chorus progress", 0, 1)), [](auto * report) {
                report->Release();
                delete report;
            }};
}

void tell(const Progress & progress, double fraction) {
    if (!progress) return;
    progress->NonBlockingCall([fraction](Napi::Env env, Napi::Function callback) {
        if (env != nullptr) callback.Call({Napi::Number::New(env, fraction)});
    });
}

Napi::Value Load(const Napi::CallbackInfo & info) {
    const Napi::Env env = info.Env();
    auto options = std::make_shared<Options>(options_of(info[0]));
    auto progress = progress_of(info[1]);
    auto held = std::make_shared<Held>(env);
    return promise<std::unique_ptr<Engine>>(
        env, held->worker,
        [options, progress = std::move(progress)]() mutable {
            const Progress report = std::move(progress);  // dropped after the last call, so that the event loop can end
            return std::make_unique<Engine>(std::move(*options), [&](double fraction) { tell(report, fraction); });
        },
        [held](Napi::Env env, std::unique_ptr<Engine> & engine) {
            held->engine = std::move(engine);
            return EngineObject::make(env, held);
        },
        Napi::Persistent(info[0].As<Napi::Object>()));
}

template <size_t N> std::array<uint32_t, N> words(const Napi::Value & value, const std::string & path) {
    const auto given = argument::uint32s(value, path);
    if (given.size() != N) refuse(value.Env(), path, "a Uint32Array of " + std::to_string(N));
    std::array<uint32_t, N> out;
    std::copy_n(given.begin(), N, out.begin());
    return out;
}

Napi::Value PhiloxOf(const Napi::CallbackInfo & info) {
    const auto out = philox(words<4>(info[0], "counter"), words<2>(info[1], "key"));
    return typed<Napi::Uint32Array>(info.Env(), std::vector<uint32_t>(out.begin(), out.end()));
}

Napi::Value SampleOf(const Napi::CallbackInfo & info) {
    auto logits = argument::floats(info[0], "logits");
    if (logits.empty() || logits.size() > MOST_LOGITS) refuse(info.Env(), "logits", "1 to " + std::to_string(MOST_LOGITS) + " values");
    const Sampling sampling = sampling_of(info[1], "sampling", int(logits.size()));
    const auto position = uint32_t(argument::integer(info[2], "position", 0, std::numeric_limits<int32_t>::max()));
    return Napi::Number::New(info.Env(), Sampler().sample(logits.data(), int(logits.size()), sampling, position, argument::int32s(info[3], "history")));
}

// KV is allocated and freed with each session. Once a large block has been freed, glibc keeps such blocks in its heap, where
// they leave holes: after some thousand sessions half of a rank's memory was in them.
void give_memory_back() {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
#endif
}

}  // namespace

Napi::Object Init(Napi::Env env, Napi::Object exports) {
    give_memory_back();
    env.SetInstanceData(new Classes{Napi::Persistent(EngineObject::define(env)), Napi::Persistent(PassObject::define(env))});
    exports.Set("loadBackends", Napi::Function::New<LoadBackends>(env));
    exports.Set("devices", Napi::Function::New<Devices>(env));
    exports.Set("load", Napi::Function::New<Load>(env));
    exports.Set("philox", Napi::Function::New<PhiloxOf>(env));
    exports.Set("sample", Napi::Function::New<SampleOf>(env));
    return exports;
}

}  // namespace chorus

static Napi::Object InitAll(Napi::Env env, Napi::Object exports) { return chorus::Init(env, exports); }
NODE_API_MODULE(chorus, InitAll)
