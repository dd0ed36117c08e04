#include "../engine/engine.hpp"

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

template <typename T>
Napi::Value promise(Napi::Env env, Worker & worker, std::function<T()> work, std::function<Napi::Value(Napi::Env, T &)> convert, Napi::ObjectReference keep) {
    auto nothing = Napi::Function::New(env, [](const Napi::CallbackInfo &) {});
    auto * job = new Job<T>{Napi::Promise::Deferred::New(env), Napi::ThreadSafeFunction::New(env, nothing, "chorus", 0, 1), std::move(keep), std::move(work), std::move(convert), {}, {}, {}};
    auto result = job->deferred.Promise();
    worker.post([job] {
        try {
            job->result = job->work();
        } catch (const Aborted & error) {
            job->error = error.what();
            job->code = "ABORTED";
        } catch (const std::invalid_argument & error) {
            job->error = error.what();
            job->code = "INVALID";
        } catch (const std::exception & error) {
            job->error = error.what();
            job->code = "FAILED";
        }
        auto settle = job->settle;
        settle.BlockingCall(job, [](Napi::Env env, Napi::Function, Job<T> * raw) {
            std::unique_ptr<Job<T>> job(raw);
            if (env == nullptr) return;
            Napi::HandleScope scope(env);
            if (job->result) {
                job->deferred.Resolve(job->convert(env, *job->result));
            } else {
                Napi::Error error = job->code == "INVALID" ? Napi::Error(Napi::TypeError::New(env, job->error)) : Napi::Error::New(env, job->error);
                error.Set("code", Napi::String::New(env, job->code));
                job->deferred.Reject(error.Value());
            }
        });
        settle.Release();
    });
    return result;
}

}  // namespace chorus
