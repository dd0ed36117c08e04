#include "engine_object.hpp"

#include <algorithm>

#include "argument.hpp"
#include "options.hpp"
#include "pass_object.hpp"

namespace chorus {

using argument::refuse;

namespace {

std::vector<Segment> segments_of(const Napi::Value & value) {
    const Napi::Array list = argument::array(value, "segments", Engine::max_rows);
    std::vector<Segment> segments;
    for (uint32_t i = 0; i < list.Length() && i < uint32_t(Engine::max_rows); ++i) {
        const std::string path = "segments[" + std::to_string(i) + "]";
        const Napi::Object o = argument::object(list.Get(i), path);
        Segment s;
        s.session = argument::text(o.Get("session"), path + ".session");
        s.tokens = argument::int32s(o.Get("tokens"), path + ".tokens");
        s.parents = argument::int32s(o.Get("parents"), path + ".parents");
        if (s.tokens.empty()) refuse(value.Env(), path + ".tokens", "at least one token");
        if (s.parents.size() != s.tokens.size()) refuse(value.Env(), path + ".parents", std::to_string(s.tokens.size()) + " parents, one a token; got " + std::to_string(s.parents.size()));
        segments.push_back(std::move(s));
    }
    return segments;
}

void require_fitting(Napi::Env env, const Segment & segment, const Session & session, const Shape & shape, const std::string & path) {
    for (size_t j = 0; j < segment.tokens.size(); ++j) {
        const std::string at = "[" + std::to_string(j) + "]";
        const int token = segment.tokens[j], parent = segment.parents[j];
        if (token < 0 || token >= shape.vocab) refuse(env, path + ".tokens" + at, "a token of 0 to " + std::to_string(shape.vocab - 1) + "; got " + std::to_string(token));
        // A committed slot other than the last has a child already; a row that branches off there would see what came after it.
        const int least = session.committed - 1, most = session.used + int(j) - 1;
        if (parent < least || parent > most) refuse(env, path + ".parents" + at, "a slot of " + std::to_string(least) + " to " + std::to_string(most) + "; got " + std::to_string(parent));
    }
    if (session.used + int64_t(segment.tokens.size()) > int64_t(shape.context) + Engine::max_rows) refuse(env, path + ".tokens", "at most " + std::to_string(shape.context) + " positions, the context");
}

}  // namespace

Napi::Function EngineObject::define(Napi::Env env) {
    return DefineClass(env, "Engine",
                       {InstanceMethod<&EngineObject::open>("open"), InstanceMethod<&EngineObject::close>("close"), InstanceMethod<&EngineObject::sessions>("sessions"),
                        InstanceMethod<&EngineObject::used>("used"), InstanceMethod<&EngineObject::committed>("committed"), InstanceMethod<&EngineObject::begin>("begin"),
                        InstanceMethod<&EngineObject::commit>("commit"), InstanceMethod<&EngineObject::truncate>("truncate"),
                        InstanceMethod<&EngineObject::kv_export>("kvExport"), InstanceMethod<&EngineObject::kv_import>("kvImport"),
                        InstanceMethod<&EngineObject::bytes_of_kv>("bytesOfKv"), InstanceMethod<&EngineObject::abort>("abort"), InstanceMethod<&EngineObject::narrow>("narrow"), InstanceMethod<&EngineObject::dispose>("dispose")});
}

Napi::Value EngineObject::make(Napi::Env env, std::shared_ptr<Held> held) {
    return env.GetInstanceData<Classes>()->engine.New({Napi::External<std::shared_ptr<Held>>::New(env, &held)});
}

EngineObject::EngineObject(const Napi::CallbackInfo & info) : Napi::ObjectWrap<EngineObject>(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "an engine is made by load");
    held_ = *info[0].As<Napi::External<std::shared_ptr<Held>>>().Data();
    auto self = info.This().As<Napi::Object>();
    self.Set("maxRows", Engine::max_rows);
    self.Set("bytesOfWeights", double(held_->engine->bytes_of_weights()));
    self.Set("bytesOfKvPerToken", double(held_->engine->kv().bytes_per_token()));
}

Engine & EngineObject::engine(const Napi::CallbackInfo & info) {
    if (!held_->engine) throw Napi::TypeError::New(info.Env(), "the engine was disposed of");
    return *held_->engine;
}

std::string EngineObject::name(const Napi::CallbackInfo & info) {
    const std::string name = argument::text(info[0], "session");
    if (engine(info).sessions.count(name) == 0) throw Napi::TypeError::New(info.Env(), "session: there is no session \"" + name + "\"");
    return name;
}

// The session, if it may change now: no pass of it is open, and no promise about it is pending.
std::string EngineObject::idle(const Napi::CallbackInfo & info) {
    const std::string n = name(info);
    if (held_->uses.count(n) != 0) throw Napi::TypeError::New(info.Env(), "session: \"" + n + "\" is in use by a pass that has not ended or a promise that has not settled");
    return n;
}

void EngineObject::open(const Napi::CallbackInfo & info) {
    const std::string name = argument::text(info[0], "session");
    const Sampling sampling = sampling_of(info[1], "sampling", engine(info).options.shape.vocab);
    if (name.empty()) refuse(info.Env(), "session", "a name");
    Engine & e = engine(info);
    if (e.sessions.count(name) != 0) throw Napi::TypeError::New(info.Env(), "session: \"" + name + "\" is open already");
    e.sessions[name] = e.open(sampling);
}

void EngineObject::close(const Napi::CallbackInfo & info) { engine(info).sessions.erase(idle(info)); }

Napi::Value EngineObject::sessions(const Napi::CallbackInfo & info) {
    auto out = Napi::Array::New(info.Env());
    for (const auto & [name, session] : engine(info).sessions) out.Set(out.Length(), name);
    return out;
}

Napi::Value EngineObject::used(const Napi::CallbackInfo & info) { return Napi::Number::New(info.Env(), engine(info).sessions[name(info)]->used); }
Napi::Value EngineObject::committed(const Napi::CallbackInfo & info) { return Napi::Number::New(info.Env(), engine(info).sessions[name(info)]->committed); }

Napi::Value EngineObject::begin(const Napi::CallbackInfo & info) {
    const Napi::Env env = info.Env();
    const std::vector<Segment> segments = segments_of(info[0]);
    Engine & e = engine(info);
    std::vector<std::string> names;
    size_t rows = 0;
    for (size_t i = 0; i < segments.size(); ++i) {
        const Segment & segment = segments[i];
        const std::string path = "segments[" + std::to_string(i) + "]", &name = segment.session;
        const auto found = e.sessions.find(name);
        if (found == e.sessions.end()) refuse(env, path + ".session", "an open session; got \"" + name + "\"");
        if (held_->uses.count(name) != 0 || std::count(names.begin(), names.end(), name) != 0) refuse(env, path + ".session", "a session that no pass or promise uses; got \"" + name + "\"");
        require_fitting(env, segment, *found->second, e.options.shape, path);
        rows += segment.tokens.size();
        names.push_back(name);
    }
    if (rows == 0 || rows > size_t(Engine::max_rows)) refuse(env, "segments", "1 to " + std::to_string(Engine::max_rows) + " rows in all; got " + std::to_string(rows));
    return PassObject::make(env, {held_, e.begin(segments), std::make_shared<Use>(held_, names)});
}

Napi::Value EngineObject::commit(const Napi::CallbackInfo & info) {
    const std::string n = idle(info);
    auto session = engine(info).sessions[n];
    auto slots = argument::int32s(info[1], "slots");
    for (size_t i = 0; i < slots.size(); ++i) {
        const std::string at = "slots[" + std::to_string(i) + "]";
        if (slots[i] < session->committed || slots[i] >= session->used) refuse(info.Env(), at, "a slot of " + std::to_string(session->committed) + " to " + std::to_string(session->used - 1) + "; got " + std::to_string(slots[i]));
        const int parent = i == 0 ? session->committed - 1 : slots[i - 1];
        if (session->parents[size_t(slots[i])] != parent) refuse(info.Env(), at, "a child of slot " + std::to_string(parent) + "; got " + std::to_string(slots[i]));
    }
    // Rows that already lie in their slots only have to be counted: that is done at once, whatever computes meanwhile.
    if (slots.empty() || slots.back() == session->committed + int(slots.size()) - 1) {
        engine(info).kv().commit(*session, slots);
        auto done = Napi::Promise::Deferred::New(info.Env());
        done.Resolve(info.Env().Undefined());
        return done.Promise();
    }
    return quietly(info, n, [session, slots](Engine & e) { e.kv().commit(*session, slots); });
}

void EngineObject::truncate(const Napi::CallbackInfo & info) {
    Session & session = *engine(info).sessions[idle(info)];
    const int length = int(argument::integer(info[1], "length", 0, session.used));
    session.committed = std::min(session.committed, length);
    session.used = length;
}

Napi::Value EngineObject::kv_export(const Napi::CallbackInfo & info) {
    const std::string n = idle(info);
    auto session = engine(info).sessions[n];
    const int from = int(argument::integer(info[1], "from", 0, session->committed));
    const int to = int(argument::integer(info[2], "to", from, session->committed));
    return promise<std::vector<uint8_t>>(
        info.Env(), held_->worker, [engine = held_->engine.get(), session, from, to] { return engine->kv().exported(*session, from, to); },
        [use = use(n)](Napi::Env env, std::vector<uint8_t> & bytes) { return handed_over(env, bytes); }, Napi::Persistent(info.This().As<Napi::Object>()));
}

Napi::Value EngineObject::kv_import(const Napi::CallbackInfo & info) {
    const std::string n = idle(info);
    auto session = engine(info).sessions[n];
    auto bytes = argument::bytes(info[1], "bytes");
    return quietly(info, n, [session, bytes = std::move(bytes)](Engine & e) { e.kv().import(*session, bytes); });
}

Napi::Value EngineObject::bytes_of_kv(const Napi::CallbackInfo & info) { return Napi::Number::New(info.Env(), double(engine(info).bytes_of_kv())); }

void EngineObject::abort(const Napi::CallbackInfo & info) {
    engine(info);
    held_->abort();
}

void EngineObject::narrow(const Napi::CallbackInfo & info) {
    const Napi::Env env = info.Env();
    const Shape shape = engine(info).options.shape;
    const Shard shard = shard_of(info[0], shape);  // which may run the caller's code, so the engine is looked at afterwards
    Engine & e = engine(info);
    if (!e.sessions.empty()) refuse(env, "sessions", "none while the shard changes; \"" + e.sessions.begin()->first + "\" is open");
    const Shard & whole = e.options.shard;
    for (size_t i = 0; i < shard.attention.size(); ++i) {
        if (shard.attention[i] && !whole.attention[i]) refuse(env, "shard.attention", "layers of this engine's shard; got " + std::to_string(i));
        if (shard.mlp[i] && !whole.mlp[i]) refuse(env, "shard.mlp", "layers of this engine's shard; got " + std::to_string(i));
    }
    if (shard.embed && !whole.embed) refuse(env, "shard.embed", "false, as in this engine's shard");
    if (shard.head && !whole.head) refuse(env, "shard.head", "false, as in this engine's shard");
    e.narrow(shard);
    info.This().As<Napi::Object>().Set("bytesOfKvPerToken", double(e.kv().bytes_per_token()));
}

void EngineObject::dispose(const Napi::CallbackInfo &) { held_->dispose(); }

Napi::Value EngineObject::quietly(const Napi::CallbackInfo & info, const std::string & session, std::function<void(Engine &)> work) {
    return promise<bool>(
        info.Env(), held_->worker,
        [engine = held_->engine.get(), work = std::move(work)] {
            work(*engine);
            return true;
        },
        [use = use(session)](Napi::Env env, bool &) { return env.Undefined(); }, Napi::Persistent(info.This().As<Napi::Object>()));
}

}  // namespace chorus
