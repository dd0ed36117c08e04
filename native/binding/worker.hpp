// The engine's compute thread: jobs run in order, and each settles a promise on the event loop.
#pragma once
#include <napi.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace chorus {

class Worker {
  public:
    Worker();
    ~Worker();
    void post(std::function<void()> job);
    void stop();  // finishes what was posted; nothing may be posted afterwards

  private:
    void loop();
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> jobs_;
    bool stopping_ = false;
    std::thread thread_;
};

// Runs `work` on the worker; its result becomes the promise's value through `convert`, on the event loop, where both
// functions and what they hold are destroyed.
template <typename T>
Napi::Value promise(Napi::Env env, Worker & worker, std::function<T()> work, std::function<Napi::Value(Napi::Env, T &)> convert, Napi::ObjectReference keep);

}  // namespace chorus

#include "worker.inl"
