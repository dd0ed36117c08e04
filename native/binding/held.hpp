// The engine, its compute thread, and which sessions are in use. The JavaScript objects and the promises share it, so what
// outlives `dispose` still finds it. All of it belongs to the event loop, except `proceed`.
#pragma once
#include <napi.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "worker.hpp"

namespace chorus {

class Held {
  public:
    explicit Held(Napi::Env env) : env_(env) {
        napi_add_env_cleanup_hook(env_, stop, this);
        std::lock_guard lock(all().mutex);
        all().held.insert(this);
    }
    ~Held() {
        {
            std::lock_guard lock(all().mutex);
            all().held.erase(this);
        }
        napi_remove_env_cleanup_hook(env_, stop, this);
        stop(this);
    }
    Held(const Held &) = delete;

    Worker worker;
    std::unique_ptr<Engine> engine;  // null before it is loaded and after dispose
    std::map<std::string, int> uses;  // of a session, by passes that have not ended and promises that have not settled

    // A stretch takes a ticket when it is asked for; abort invalidates the tickets given out so far.
    uint64_t ticket() const { return aborts_.load(); }
    void abort() {
        ++aborts_;
        if (engine) engine->aborted.store(true);
    }
    // On the compute thread, before a stretch.
    void proceed(uint64_t ticket) {
        engine->aborted.store(false);
        if (ticket != aborts_.load()) throw Aborted();
    }
    void dispose() {
        stop(this);
        engine.reset();
    }

    // `process.exit` runs no cleanup hook of an environment, but it runs the destructors of ggml's registries, which a load
    // or a stretch uses. Called once they are there, so that what it registers runs before those destructors.
    static void stop_before_exit() {
        all();
        std::atexit([] {
            std::lock_guard lock(all().mutex);
            for (Held * held : all().held) stop(held);
        });
    }

  private:
    struct All {
        std::mutex mutex;
        std::set<Held *> held;
    };
    static All & all() {
        static All all;
        return all;
    }
    // Also before the environment ends: nothing may compute while the process is torn down.
    static void stop(void * self) {
        auto * held = static_cast<Held *>(self);
        held->abort();
        held->worker.stop();
    }
    napi_env env_;
    std::atomic<uint64_t> aborts_{0};
};

// While it exists, a pass or a promise uses the sessions, and nothing else may change them.
class Use {
  public:
    Use(std::shared_ptr<Held> held, std::vector<std::string> sessions) : held_(std::move(held)), sessions_(std::move(sessions)) {
        for (const auto & session : sessions_) ++held_->uses[session];
    }
    ~Use() {
        for (const auto & session : sessions_) {
            if (--held_->uses[session] == 0) held_->uses.erase(session);
        }
    }
    Use(const Use &) = delete;

  private:
    std::shared_ptr<Held> held_;
    std::vector<std::string> sessions_;
};

// The classes whose objects only the module makes.
struct Classes {
    Napi::FunctionReference engine, pass;
};

// A vector of int32 becomes an Int32Array, and so on.
template <typename A, typename T> Napi::Value typed(Napi::Env env, const std::vector<T> & values) {
    auto out = A::New(env, values.size());
    std::copy(values.begin(), values.end(), out.Data());
    return out;
}

// Bytes that become JavaScript's own as they lie; a copy where the runtime takes no memory of others.
inline Napi::Value handed_over(Napi::Env env, std::vector<uint8_t> & values) {
    if (values.empty()) return typed<Napi::Uint8Array>(env, values);
    auto owner = std::make_unique<std::vector<uint8_t>>(std::move(values));
    const auto free = [](napi_env, void *, void * owner) { delete static_cast<std::vector<uint8_t> *>(owner); };
    napi_value buffer = nullptr;
    if (napi_create_external_arraybuffer(env, owner->data(), owner->size(), free, owner.get(), &buffer) != napi_ok) {
        return typed<Napi::Uint8Array>(env, *owner);
    }
    const size_t bytes = owner.release()->size();
    return Napi::Uint8Array::New(env, bytes, Napi::ArrayBuffer(env, buffer), 0);
}

}  // namespace chorus
