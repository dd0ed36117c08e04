// An engine as JavaScript sees it.
#pragma once
#include "held.hpp"

namespace chorus {

class EngineObject : public Napi::ObjectWrap<EngineObject> {
  public:
    static Napi::Function define(Napi::Env env);
    static Napi::Value make(Napi::Env env, std::shared_ptr<Held> held);
    explicit EngineObject(const Napi::CallbackInfo & info);

  private:
    Engine & engine(const Napi::CallbackInfo & info);
    std::string name(const Napi::CallbackInfo & info);
    std::string idle(const Napi::CallbackInfo & info);
    std::shared_ptr<Use> use(const std::string & session) { return std::make_shared<Use>(held_, std::vector<std::string>{session}); }
    Napi::Value quietly(const Napi::CallbackInfo & info, const std::string & session, std::function<void(Engine &)> work);

    void open(const Napi::CallbackInfo & info);
    void close(const Napi::CallbackInfo & info);
    Napi::Value sessions(const Napi::CallbackInfo & info);
    Napi::Value used(const Napi::CallbackInfo & info);
    Napi::Value committed(const Napi::CallbackInfo & info);
    Napi::Value begin(const Napi::CallbackInfo & info);
    Napi::Value commit(const Napi::CallbackInfo & info);
    void truncate(const Napi::CallbackInfo & info);
    Napi::Value kv_export(const Napi::CallbackInfo & info);
    Napi::Value kv_import(const Napi::CallbackInfo & info);
    Napi::Value bytes_of_kv(const Napi::CallbackInfo & info);
    void abort(const Napi::CallbackInfo & info);
    void narrow(const Napi::CallbackInfo & info);
    void dispose(const Napi::CallbackInfo & info);

    std::shared_ptr<Held> held_;
};

}  // namespace chorus
