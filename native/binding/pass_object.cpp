#include "pass_object.hpp"

#include "argument.hpp"
#include "ops.hpp"

namespace chorus {

namespace {

Napi::Array list_of(Napi::Env env, const std::vector<std::vector<uint8_t>> & all) {
    auto array = Napi::Array::New(env, all.size());
    for (size_t i = 0; i < all.size(); ++i) array.Set(uint32_t(i), typed<Napi::Uint8Array>(env, all[i]));
    return array;
}

Napi::Value result_of(Napi::Env env, const StretchResult & r) {
    auto out = Napi::Object::New(env);
    out.Set("hiddens", list_of(env, r.hiddens));
    out.Set("attended", list_of(env, r.attended));
    out.Set("tokens", r.has_tokens ? typed<Napi::Int32Array>(env, r.tokens) : env.Null());
    out.Set("topTokens", r.has_top ? typed<Napi::Int32Array>(env, r.top_tokens) : env.Null());
    out.Set("topLogProbs", r.has_top ? typed<Napi::Float32Array>(env, r.top_log_probs) : env.Null());
    out.Set("logProbs", r.has_log_probs ? typed<Napi::Float32Array>(env, r.log_probs) : env.Null());
    out.Set("logits", r.has_logits ? typed<Napi::Float32Array>(env, r.logits) : env.Null());
    out.Set("micros", Napi::Number::New(env, r.micros));
    return out;
}

}  // namespace

Napi::Function PassObject::define(Napi::Env env) {
    return DefineClass(env, "Pass", {InstanceMethod<&PassObject::run>("run"), InstanceMethod<&PassObject::end>("end")});
}

Napi::Value PassObject::make(Napi::Env env, Given given) {
    return env.GetInstanceData<Classes>()->pass.New({Napi::External<Given>::New(env, &given)});
}

PassObject::PassObject(const Napi::CallbackInfo & info) : Napi::ObjectWrap<PassObject>(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "a pass is made by Engine.begin");
    given_ = *info[0].As<Napi::External<Given>>().Data();
}

Napi::Value PassObject::run(const Napi::CallbackInfo & info) {
    const Napi::Env env = info.Env();
    auto ops = std::make_shared<std::vector<Op>>(ops_of(info[0]));
    auto [held, pass, use] = given_;
    if (!pass) throw Napi::TypeError::New(env, "this pass has ended");
    if (!held->engine) throw Napi::TypeError::New(env, "the engine was disposed of");
    require_known(env, *ops, held->engine->options, pass->rows());
    return promise<StretchResult>(
        env, held->worker,
        [held = held.get(), pass = pass, ops, ticket = held->ticket()] {
            held->proceed(ticket);
            require_order(*ops, *pass);
            return held->engine->run(*pass, *ops);
        },
        [use = use](Napi::Env env, StretchResult & r) { return result_of(env, r); }, Napi::Persistent(info.This().As<Napi::Object>()));
}

void PassObject::end(const Napi::CallbackInfo &) {
    given_.pass.reset();
    given_.use.reset();
}

}  // namespace chorus
