#include <optional>

#include "engine/engine.hpp"

namespace chorus {

template <typename T> struct Job {
    Napi::Promise::Deferred deferred;
    Napi::ThreadSafeFunction settle;
    Napi::ObjectReference keep;  // the JavaScript object that owns what the work uses
    std::function<T()> work;
    std::function<Napi::Value(Napi::Env, T &)> convert;
    std::optional<T> result;
    std::string error, code;
};

template <typename T> void run(Job<T> & job) {
    try {
        job.result = job.work();
    } catch (const Aborted & error) {
        job.error = error.what();
        job.code = "ABORTED";
    } catch (const std::invalid_argument & error) {
        job.error = error.what();
        job.code = "INVALID";
    } catch (const std::exception & error) {
        job.error = error.what();
        job.code = "FAILED";
    }
}

template <typename T> void settle(Napi::Env env, Job<T> & job) {
    Napi::HandleScope scope(env);
    if (job.result) {
        try {
            return job.deferred.Resolve(job.convert(env, *job.result));
        } catch (const Napi::Error & error) {
            return job.deferred.Reject(error.Value());
        } catch (const std::exception & error) {
            job.error = error.what();
            job.code = "FAILED";
        }
    }
    Napi::Error error = job.code == "INVALID" ? Napi::Error(Napi::TypeError::New(env, job.error)) : Napi::Error::New(env, job.error);
    error.Set("code", Napi::String::New(env, job.code));
    job.deferred.Reject(error.Value());
}

template <typename T>
Napi::Value promise(Napi::Env env, Worker & worker, std::function<T()> work, std::function<Napi::Value(Napi::Env, T &)> convert, Napi::ObjectReference keep) {
    auto nothing = Napi::Function::New(env, [](const Napi::CallbackInfo &) {});
    auto owned = std::unique_ptr<Job<T>>(new Job<T>{Napi::Promise::Deferred::New(env), Napi::ThreadSafeFunction::New(env, nothing, "chorus", 0, 1), std::move(keep), std::move(work), std::move(convert), {}, {}, {}});
    const auto result = owned->deferred.Promise();
    worker.post([job = owned.release()] {
        run(*job);
        auto settled = job->settle;
        const auto status = settled.BlockingCall(job, [](Napi::Env env, Napi::Function, Job<T> * raw) {
            std::unique_ptr<Job<T>> job(raw);
            if (env != nullptr) {
                settle(env, *job);
            } else {
                job.release();  // the environment is ending, and its references with it
            }
        });
        if (status == napi_ok) settled.Release();  // otherwise the environment has closed it
    });
    return result;
}

}  // namespace chorus
