// A pass as JavaScript sees it.
#pragma once
#include "held.hpp"

namespace chorus {

class PassObject : public Napi::ObjectWrap<PassObject> {
  public:
    struct Given {
        std::shared_ptr<Held> held;
        std::shared_ptr<Pass> pass;
        std::shared_ptr<Use> use;
    };
    static Napi::Function define(Napi::Env env);
    static Napi::Value make(Napi::Env env, Given given);
    explicit PassObject(const Napi::CallbackInfo & info);

  private:
    Napi::Value run(const Napi::CallbackInfo & info);
    void end(const Napi::CallbackInfo & info);

    Given given_;  // without pass and use once it has ended; stretches that have not settled keep theirs
};

}  // namespace chorus
