// The addon: argument checks and conversion; no arithmetic. native/index.ts describes this surface.
#include <napi.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <mutex>

#include "../engine/engine.hpp"
#include "argument.hpp"
#include "worker.hpp"

namespace chorus {

namespace {

using argument::refuse;

// A token's int32 vector becomes an Int32Array, and so on.
template <typename A, typename T> Napi::Value typed(Napi::Env env, const std::vector<T> & values) {
    auto out = A::New(env, values.size());
    if (!values.empty()) std::memcpy(out.Data(), values.data(), values.size() * sizeof(T));
    return out;
}

ggml_type type_of(const Napi::Value & value, const std::string & path) {
    const std::string name = argument::text(value, path);
    for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
        const char * known = ggml_type_name(ggml_type(type));
        if (known != nullptr && name == known && ggml_blck_size(ggml_type(type)) > 0) return ggml_type(type);
    }
    // GGUF writes q4_K where others write q4_k.
    for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
        const char * known = ggml_type_name(ggml_type(type));
        if (known != nullptr && ggml_blck_size(ggml_type(type)) > 0 && std::equal(name.begin(), name.end(), known, known + std::strlen(known), [](char a, char b) { return std::tolower(a) == std::tolower(b); })) return ggml_type(type);
    }
    refuse(value.Env(), path, "a weight type that ggml knows; got \"" + name + "\"");
}

Sampling sampling_of(const Napi::Value & value, const std::string & path) {
    const Napi::Object o = argument::object(value, path);
    Sampling s{};
    s.temperature = argument::number(o.Get("temperature"), path + ".temperature", 0, 1e6);
    s.top_k = int(argument::integer(o.Get("topK"), path + ".topK", 0, std::numeric_limits<int32_t>::max()));
    s.top_p = argument::number(o.Get("topP"), path + ".topP", 0, 1);
    s.min_p = argument::number(o.Get("minP"), path + ".minP", 0, 1);
    s.repetition_penalty = argument::number(o.Get("repetitionPenalty"), path + ".repetitionPenalty", 1e-6, 1e6);
    if (!o.Get("seed").IsBigInt()) refuse(value.Env(), path + ".seed", "a bigint");
    bool lossless = false;
    s.seed = o.Get("seed").As<Napi::BigInt>().Uint64Value(&lossless);
    if (!lossless) refuse(value.Env(), path + ".seed", "a bigint from 0 to 2^64 - 1");
    return s;
}

Shape shape_of(const Napi::Value & value) {
    const Napi::Object o = argument::object(value, "shape");
    const auto count = [&](const char * name, int64_t most) { return int(argument::integer(o.Get(name), std::string("shape.") + name, 1, most)); };
    Shape s{};
    s.layers = count("layers", 1024);
    s.width = count("width", 1 << 20);
    s.heads = count("heads", 4096);
    s.kv_heads = count("kvHeads", 4096);
    s.head_dim = count("headDim", 4096);
    s.ffn = count("ffn", 1 << 22);
    s.vocab = count("vocab", 1 << 24);
    s.context = count("context", 1 << 28);
    s.norm_eps = float(argument::number(o.Get("normEps"), "shape.normEps", 0, 1));
    s.rope_theta = float(argument::number(o.Get("ropeTheta"), "shape.ropeTheta", 1, 1e12));
    s.rope_dim = count("ropeDim", s.head_dim);
    const std::string pairs = argument::text(o.Get("ropePairs"), "shape.ropePairs");
    if (pairs != "halves" && pairs != "neighbours") refuse(value.Env(), "shape.ropePairs", "\"halves\" or \"neighbours\"");
    s.rope_neighbours = pairs == "neighbours";
    const Napi::Value factors = o.Get("ropeFactors");
    if (!factors.IsNull()) {
        if (!factors.IsTypedArray() || factors.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array) refuse(value.Env(), "shape.ropeFactors", "a Float32Array or null");
        const auto typed = factors.As<Napi::Float32Array>();
        s.rope_factors.assign(typed.Data(), typed.Data() + typed.ElementLength());
        if (s.rope_factors.size() != size_t(s.rope_dim / 2)) refuse(value.Env(), "shape.ropeFactors", std::to_string(s.rope_dim / 2) + " values");
    }
    if (s.heads % s.kv_heads != 0) refuse(value.Env(), "shape.kvHeads", "a divisor of shape.heads");
    if (s.rope_dim % 2 != 0) refuse(value.Env(), "shape.ropeDim", "an even number");
    return s;
}

std::vector<TensorSource> tensors_of(const Napi::Value & value) {
    const Napi::Array list = argument::array(value, "tensors");
    std::vector<TensorSource> out;
    for (uint32_t i = 0; i < list.Length(); ++i) {
        const std::string path = "tensors[" + std::to_string(i) + "]";
        const Napi::Object o = argument::object(list.Get(i), path);
        TensorSource t{};
        t.name = argument::text(o.Get("name"), path + ".name");
        t.file = argument::text(o.Get("file"), path + ".file");
        t.offset = uint64_t(argument::integer(o.Get("offset"), path + ".offset", 0, int64_t(1) << 53));
        t.bytes = uint64_t(argument::integer(o.Get("bytes"), path + ".bytes", 0, int64_t(1) << 53));
        t.type = type_of(o.Get("type"), path + ".type");
        for (const int n : argument::integers(o.Get("shape"), path + ".shape", 1, std::numeric_limits<int32_t>::max())) t.shape.push_back(n);
        if (t.shape.empty() || t.shape.size() > 4) refuse(value.Env(), path + ".shape", "one to four sizes");
        out.push_back(std::move(t));
    }
    return out;
}

Shard shard_of(const Napi::Value & value, const Shape & shape) {
    const Napi::Object o = argument::object(value, "shard");
    Shard s{std::vector<bool>(size_t(shape.layers)), std::vector<bool>(size_t(shape.layers)), false, false};
    for (const int i : argument::integers(o.Get("attention"), "shard.attention", 0, shape.layers - 1)) s.attention[size_t(i)] = true;
    for (const int i : argument::integers(o.Get("mlp"), "shard.mlp", 0, shape.layers - 1)) s.mlp[size_t(i)] = true;
    s.embed = argument::boolean(o.Get("embed"), "shard.embed");
    s.head = argument::boolean(o.Get("head"), "shard.head");
    return s;
}

}  // namespace

// The classes that JavaScript does not make itself.
struct Classes {
    Napi::FunctionReference engine, pass;
};

// The engine, its compute thread, and what both sides may touch. Shared by the wrappers, so that a pass or a promise that
// outlives `dispose` finds the memory that it uses.
struct Held {
    std::unique_ptr<Engine> engine;  // null after dispose
    std::map<std::string, int> open_passes;
    std::unique_ptr<Worker> worker = std::make_unique<Worker>();
};

class PassWrap : public Napi::ObjectWrap<PassWrap> {
  public:
    static Napi::Function define(Napi::Env env) {
        return DefineClass(env, "Pass", {InstanceMethod<&PassWrap::Run>("run"), InstanceMethod<&PassWrap::End>("end")});
    }
    explicit PassWrap(const Napi::CallbackInfo & info) : Napi::ObjectWrap<PassWrap>(info) {
        if (info.Length() != 1 || !info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "a pass is made by Engine.begin");
        auto * given = info[0].As<Napi::External<Given>>().Data();
        held_ = given->held;
        pass_ = given->pass;
        names_ = given->names;
    }
    struct Given {
        std::shared_ptr<Held> held;
        std::shared_ptr<Pass> pass;
        std::vector<std::string> names;
    };

  private:
    Napi::Value Run(const Napi::CallbackInfo & info) {
        const Napi::Env env = info.Env();
        if (pass_->ended) throw Napi::TypeError::New(env, "this pass has ended");
        if (!held_->engine) throw Napi::TypeError::New(env, "the engine was disposed of");
        auto ops = std::make_shared<std::vector<Op>>(ops_of(info[0]));
        Engine * engine = held_->engine.get();
        auto pass = pass_;
        return promise<StretchResult>(
            env, *held_->worker,
            [engine, pass, ops] {
                if (engine->aborted.load()) throw Aborted();
                return engine->run(*pass, *ops);
            },
            [](Napi::Env env, StretchResult & r) -> Napi::Value {
                auto out = Napi::Object::New(env);
                const auto list = [&](std::vector<std::vector<uint8_t>> & all) {
                    auto array = Napi::Array::New(env, all.size());
                    for (size_t i = 0; i < all.size(); ++i) array.Set(uint32_t(i), typed<Napi::Uint8Array>(env, all[i]));
                    return array;
                };
                out.Set("hiddens", list(r.hiddens));
                out.Set("attended", list(r.attended));
                out.Set("tokens", r.has_tokens ? typed<Napi::Int32Array>(env, r.tokens) : env.Null());
                out.Set("logProbs", r.has_log_probs ? typed<Napi::Float32Array>(env, r.log_probs) : env.Null());
                out.Set("logits", r.has_logits ? typed<Napi::Float32Array>(env, r.logits) : env.Null());
                out.Set("micros", Napi::Number::New(env, r.micros));
                return out;
            },
            Napi::Persistent(info.This().As<Napi::Object>()));
    }

    void End(const Napi::CallbackInfo &) {
        if (pass_->ended) return;
        pass_->ended = true;
        for (const auto & name : names_) {
            if (--held_->open_passes[name] == 0) held_->open_passes.erase(name);
        }
    }

    std::vector<Op> ops_of(const Napi::Value & value);

    std::shared_ptr<Held> held_;
    std::shared_ptr<Pass> pass_;
    std::vector<std::string> names_;
    bool has_h_ = false;
    std::vector<bool> kept_;
};

// Checks each step against the shard and against what came before it, so that the engine never meets a layer it lacks.
std::vector<Op> PassWrap::ops_of(const Napi::Value & value) {
    const Napi::Env env = value.Env();
    const Options & options = held_->engine->options;
    const int layers = options.shape.layers, rows = pass_->rows();
    const size_t bytes = size_t(rows) * size_t(options.shape.width) * sizeof(float);
    if (kept_.empty()) kept_.resize(size_t(layers));
    bool has_h = has_h_, headed = false;
    std::vector<bool> kept = kept_;
    const Napi::Array list = argument::array(value, "ops");
    if (list.Length() == 0) refuse(env, "ops", "at least one step");
    std::vector<Op> out;
    const auto need_h = [&](const std::string & path) {
        if (!has_h) refuse(env, path, "an embed or receive before it");
    };
    const auto held = [&](const std::vector<bool> & shard, int layer, const std::string & path) {
        if (!shard[size_t(layer)]) refuse(env, path, "a layer of this shard; got " + std::to_string(layer));
    };
    for (uint32_t i = 0; i < list.Length(); ++i) {
        const std::string path = "ops[" + std::to_string(i) + "]";
        const Napi::Object o = argument::object(list.Get(i), path);
        const std::string kind = argument::text(o.Get("op"), path + ".op");
        Op op{};
        if (headed) refuse(env, path, "nothing after a head");
        if (kind == "embed") {
            op.kind = Op::Kind::embed;
            if (!options.shard.embed) refuse(env, path, "a shard with the embedding");
            has_h = true;
        } else if (kind == "receive") {
            op.kind = Op::Kind::receive;
            op.hidden = argument::bytes(o.Get("hidden"), path + ".hidden");
            if (op.hidden.size() != bytes) refuse(env, path + ".hidden", std::to_string(bytes) + " bytes; got " + std::to_string(op.hidden.size()));
            has_h = true;
        } else if (kind == "layers") {
            op.kind = Op::Kind::layers;
            need_h(path);
            op.from = int(argument::integer(o.Get("from"), path + ".from", 0, layers));
            op.to = int(argument::integer(o.Get("to"), path + ".to", op.from, layers));
            for (int layer = op.from; layer < op.to; ++layer) {
                held(options.shard.attention, layer, path);
                held(options.shard.mlp, layer, path);
            }
        } else if (kind == "attend") {
            op.kind = Op::Kind::attend;
            need_h(path);
            op.layers = argument::integers(o.Get("layers"), path + ".layers", 0, layers - 1);
            for (size_t j = 0; j < op.layers.size(); ++j) {
                held(options.shard.attention, op.layers[j], path + ".layers[" + std::to_string(j) + "]");
                kept[size_t(op.layers[j])] = true;
            }
        } else if (kind == "mlps") {
            op.kind = Op::Kind::mlps;
            need_h(path);
            op.layers = argument::integers(o.Get("layers"), path + ".layers", 0, layers - 1);
            const Napi::Array attended = argument::array(o.Get("attended"), path + ".attended");
            if (attended.Length() != op.layers.size()) refuse(env, path + ".attended", "one element a layer");
            for (uint32_t j = 0; j < attended.Length(); ++j) {
                const std::string at = path + ".attended[" + std::to_string(j) + "]";
                held(options.shard.mlp, op.layers[j], path + ".layers[" + std::to_string(j) + "]");
                const Napi::Value given = attended.Get(j);
                if (given.IsNull()) {
                    if (!kept[size_t(op.layers[j])]) refuse(env, at, "bytes: this shard's attend kept nothing for layer " + std::to_string(op.layers[j]));
                    op.attended.emplace_back();
                } else {
                    op.attended.emplace_back(argument::bytes(given, at));
                    if (op.attended.back()->size() != bytes) refuse(env, at, std::to_string(bytes) + " bytes; got " + std::to_string(op.attended.back()->size()));
                }
            }
            const Napi::Value whole = o.Get("whole");
            op.whole = !whole.IsUndefined() && argument::boolean(whole, path + ".whole");
        } else if (kind == "emit") {
            op.kind = Op::Kind::emit;
            need_h(path);
        } else if (kind == "head") {
            op.kind = Op::Kind::head;
            need_h(path);
            headed = true;
            if (!options.shard.head) refuse(env, path, "a shard with the head");
            op.rows = argument::int32s(o.Get("rows"), path + ".rows");
            if (op.rows.empty() || op.rows.size() > size_t(Engine::max_rows)) refuse(env, path + ".rows", "1 to " + std::to_string(Engine::max_rows) + " rows");
            for (size_t j = 0; j < op.rows.size(); ++j) {
                if (op.rows[j] < 0 || op.rows[j] >= rows) refuse(env, path + ".rows[" + std::to_string(j) + "]", "a row of 0 to " + std::to_string(rows - 1) + "; got " + std::to_string(op.rows[j]));
            }
            const std::string want = argument::text(o.Get("want"), path + ".want");
            if (want == "tokens") {
                op.want = Op::Want::tokens;
            } else if (want == "candidates") {
                op.want = Op::Want::candidates;
                op.k = int(argument::integer(o.Get("k"), path + ".k", 1, std::min(options.shape.vocab, 1024)));
            } else if (want == "logits") {
                op.want = Op::Want::logits;
            } else {
                refuse(env, path + ".want", "\"tokens\", \"candidates\" or \"logits\"");
            }
        } else {
            refuse(env, path + ".op", "embed, receive, layers, attend, mlps, emit or head; got \"" + kind + "\"");
        }
        out.push_back(std::move(op));
    }
    has_h_ = has_h;
    kept_ = std::move(kept);
    return out;
}

class EngineWrap : public Napi::ObjectWrap<EngineWrap> {
  public:
    static Napi::Function define(Napi::Env env) {
        return DefineClass(env, "Engine",
                           {InstanceMethod<&EngineWrap::Open>("open"), InstanceMethod<&EngineWrap::Close>("close"), InstanceMethod<&EngineWrap::Sessions>("sessions"),
                            InstanceMethod<&EngineWrap::Used>("used"), InstanceMethod<&EngineWrap::Committed>("committed"), InstanceMethod<&EngineWrap::Begin>("begin"),
                            InstanceMethod<&EngineWrap::Commit>("commit"), InstanceMethod<&EngineWrap::Truncate>("truncate"),
                            InstanceMethod<&EngineWrap::KvExport>("kvExport"), InstanceMethod<&EngineWrap::KvImport>("kvImport"),
                            InstanceMethod<&EngineWrap::BytesOfKv>("bytesOfKv"), InstanceMethod<&EngineWrap::Abort>("abort"), InstanceMethod<&EngineWrap::Dispose>("dispose")});
    }
    explicit EngineWrap(const Napi::CallbackInfo & info) : Napi::ObjectWrap<EngineWrap>(info) {
        if (info.Length() != 1 || !info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "an engine is made by load");
        held_ = *info[0].As<Napi::External<std::shared_ptr<Held>>>().Data();
        auto self = info.This().As<Napi::Object>();
        self.Set("maxRows", Engine::max_rows);
        self.Set("bytesOfWeights", double(held_->engine->bytes_of_weights()));
        self.Set("bytesOfKvPerToken", double(held_->engine->bytes_of_kv_per_token()));
    }

  private:
    Engine & engine(const Napi::CallbackInfo & info) {
        if (!held_->engine) throw Napi::TypeError::New(info.Env(), "the engine was disposed of");
        return *held_->engine;
    }

    std::string name(const Napi::CallbackInfo & info) {
        const std::string name = argument::text(info[0], "session");
        if (engine(info).sessions.count(name) == 0) throw Napi::TypeError::New(info.Env(), "session: there is no session \"" + name + "\"");
        return name;
    }

    // A session whose KV may change now: none of its passes is open.
    std::string idle(const Napi::CallbackInfo & info) {
        const std::string n = name(info);
        if (held_->open_passes.count(n) != 0) throw Napi::TypeError::New(info.Env(), "session: \"" + n + "\" has a pass that has not ended");
        return n;
    }

    void Open(const Napi::CallbackInfo & info) {
        const std::string name = argument::text(info[0], "session");
        if (name.empty()) refuse(info.Env(), "session", "a name");
        if (engine(info).sessions.count(name) != 0) throw Napi::TypeError::New(info.Env(), "session: \"" + name + "\" is open already");
        engine(info).sessions[name] = engine(info).open(sampling_of(info[1], "sampling"));
    }

    void Close(const Napi::CallbackInfo & info) { engine(info).sessions.erase(idle(info)); }

    Napi::Value Sessions(const Napi::CallbackInfo & info) {
        auto out = Napi::Array::New(info.Env());
        for (const auto & [name, session] : engine(info).sessions) out.Set(out.Length(), name);
        return out;
    }

    Napi::Value Used(const Napi::CallbackInfo & info) { return Napi::Number::New(info.Env(), engine(info).sessions[name(info)]->used); }
    Napi::Value Committed(const Napi::CallbackInfo & info) { return Napi::Number::New(info.Env(), engine(info).sessions[name(info)]->committed); }

    Napi::Value Begin(const Napi::CallbackInfo & info) {
        const Napi::Env env = info.Env();
        Engine & e = engine(info);
        const Napi::Array list = argument::array(info[0], "segments");
        std::vector<Segment> segments;
        std::vector<std::string> names;
        size_t rows = 0;
        for (uint32_t i = 0; i < list.Length(); ++i) {
            const std::string path = "segments[" + std::to_string(i) + "]";
            const Napi::Object o = argument::object(list.Get(i), path);
            Segment s{argument::text(o.Get("session"), path + ".session"), argument::int32s(o.Get("tokens"), path + ".tokens"), argument::int32s(o.Get("parents"), path + ".parents")};
            const auto found = e.sessions.find(s.session);
            if (found == e.sessions.end()) refuse(env, path + ".session", "an open session; got \"" + s.session + "\"");
            if (held_->open_passes.count(s.session) != 0 || std::count(names.begin(), names.end(), s.session) != 0) refuse(env, path + ".session", "a session without an open pass; got \"" + s.session + "\"");
            if (s.tokens.empty()) refuse(env, path + ".tokens", "at least one token");
            if (s.parents.size() != s.tokens.size()) refuse(env, path + ".parents", std::to_string(s.tokens.size()) + " parents, one a token; got " + std::to_string(s.parents.size()));
            const Session & session = *found->second;
            for (size_t j = 0; j < s.tokens.size(); ++j) {
                const std::string at = "[" + std::to_string(j) + "]";
                if (s.tokens[j] < 0 || s.tokens[j] >= e.options.shape.vocab) refuse(env, path + ".tokens" + at, "a token of 0 to " + std::to_string(e.options.shape.vocab - 1) + "; got " + std::to_string(s.tokens[j]));
                // A committed slot other than the last has a child already; a row that branches off there would see what came after it.
                const int least = session.committed - 1, most = session.used + int(j) - 1;
                if (s.parents[j] < least || s.parents[j] > most) refuse(env, path + ".parents" + at, "a slot of " + std::to_string(least) + " to " + std::to_string(most) + "; got " + std::to_string(s.parents[j]));
            }
            if (session.used + int64_t(s.tokens.size()) > int64_t(e.options.shape.context) + Engine::max_rows) refuse(env, path + ".tokens", "at most " + std::to_string(e.options.shape.context) + " positions, the context");
            rows += s.tokens.size();
            names.push_back(s.session);
            segments.push_back(std::move(s));
        }
        if (rows == 0 || rows > size_t(Engine::max_rows)) refuse(env, "segments", "1 to " + std::to_string(Engine::max_rows) + " rows in all; got " + std::to_string(rows));
        try {
            PassWrap::Given given{held_, e.begin(segments), names};
            for (const auto & n : names) ++held_->open_passes[n];
            return env.GetInstanceData<Classes>()->pass.New({Napi::External<PassWrap::Given>::New(env, &given)});
        } catch (const std::runtime_error & error) {
            throw Napi::Error::New(env, error.what());
        }
    }

    Napi::Value Commit(const Napi::CallbackInfo & info) {
        const std::string n = idle(info);
        auto session = engine(info).sessions[n];
        auto slots = argument::int32s(info[1], "slots");
        for (size_t i = 0; i < slots.size(); ++i) {
            const std::string at = "slots[" + std::to_string(i) + "]";
            if (slots[i] < session->committed || slots[i] >= session->used) refuse(info.Env(), at, "a slot of " + std::to_string(session->committed) + " to " + std::to_string(session->used - 1) + "; got " + std::to_string(slots[i]));
            const int parent = i == 0 ? session->committed - 1 : slots[i - 1];
            if (session->parents[size_t(slots[i])] != parent) refuse(info.Env(), at, "a child of slot " + std::to_string(parent) + "; got " + std::to_string(slots[i]));
        }
        return quietly(info, [session, slots](Engine & e) { e.commit(*session, slots); });
    }

    void Truncate(const Napi::CallbackInfo & info) {
        Session & session = *engine(info).sessions[idle(info)];
        const int length = int(argument::integer(info[1], "length", 0, session.used));
        session.committed = std::min(session.committed, length);
        session.used = length;
        // The rest of a tree keeps its slots only from the committed length on, so a shorter one is all committed.
    }

    Napi::Value KvExport(const Napi::CallbackInfo & info) {
        auto session = engine(info).sessions[idle(info)];
        const int from = int(argument::integer(info[1], "from", 0, session->committed));
        const int to = int(argument::integer(info[2], "to", from, session->committed));
        Engine * engine = held_->engine.get();
        return promise<std::vector<uint8_t>>(
            info.Env(), *held_->worker, [engine, session, from, to] { return engine->kv_export(*session, from, to); },
            [](Napi::Env env, std::vector<uint8_t> & bytes) { return typed<Napi::Uint8Array>(env, bytes); }, Napi::Persistent(info.This().As<Napi::Object>()));
    }

    Napi::Value KvImport(const Napi::CallbackInfo & info) {
        auto session = engine(info).sessions[idle(info)];
        auto bytes = argument::bytes(info[1], "bytes");
        return quietly(info, [session, bytes = std::move(bytes)](Engine & e) { e.kv_import(*session, bytes); });
    }

    Napi::Value BytesOfKv(const Napi::CallbackInfo & info) { return Napi::Number::New(info.Env(), double(engine(info).bytes_of_kv())); }

    // What waits is rejected too: the flag stays up until the worker has come past everything posted before.
    void Abort(const Napi::CallbackInfo & info) {
        Engine & e = engine(info);
        e.aborted.store(true);
        held_->worker->post([&e] { e.aborted.store(false); });
    }

    void Dispose(const Napi::CallbackInfo &) {
        if (!held_->engine) return;
        held_->engine->aborted.store(true);
        const std::unique_ptr<Engine> doomed = std::move(held_->engine);
        held_->worker.reset();  // waits for the stretch that computes, which has been told to stop
    }

    Napi::Value quietly(const Napi::CallbackInfo & info, std::function<void(Engine &)> work) {
        Engine * engine = held_->engine.get();
        return promise<bool>(
            info.Env(), *held_->worker,
            [engine, work] {
                work(*engine);
                return true;
            },
            [](Napi::Env env, bool &) { return env.Undefined(); }, Napi::Persistent(info.This().As<Napi::Object>()));
    }

    std::shared_ptr<Held> held_;
};

namespace {

// Once a process: ggml keeps its backends for good.
Napi::Value LoadBackends(const Napi::CallbackInfo & info) {
    static std::mutex mutex;
    static std::string loaded;
    const std::string folder = argument::text(info[0], "folder");
    std::lock_guard lock(mutex);
    if (loaded.empty()) {
        ggml_log_set([](ggml_log_level level, const char * text, void *) { if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr); }, nullptr);
        ggml_backend_load_all_from_path(folder.c_str());
        if (ggml_backend_dev_count() == 0) throw Napi::Error::New(info.Env(), "folder: " + folder + " holds no backend of ggml that runs here. Run `npm run setup`.");
        loaded = folder;
    } else if (loaded != folder) {
        throw Napi::Error::New(info.Env(), "folder: backends were loaded from " + loaded + " already");
    }
    return info.Env().Undefined();
}

// "icelake" of .../libggml-cpu-icelake.so, where this process has mapped it.
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

Napi::Value Load(const Napi::CallbackInfo & info) {
    const Napi::Env env = info.Env();
    const Napi::Object o = argument::object(info[0], "options");
    auto options = std::make_shared<Options>();
    options->shape = shape_of(o.Get("shape"));
    options->tensors = tensors_of(o.Get("tensors"));
    options->shard = shard_of(o.Get("shard"), options->shape);
    options->device = argument::text(o.Get("device"), "device");
    if (ggml_backend_dev_by_name(options->device.c_str()) == nullptr) refuse(env, "device", "a device's name; got \"" + options->device + "\"");
    options->threads = int(argument::integer(o.Get("threads"), "threads", 1, 512));
    options->deterministic = argument::boolean(o.Get("deterministic"), "deterministic");
    const std::string kv = argument::text(o.Get("kvType"), "kvType");
    if (kv != "f16" && kv != "f32") refuse(env, "kvType", "\"f16\" or \"f32\"; got \"" + kv + "\"");
    options->kv_type = kv == "f16" ? GGML_TYPE_F16 : GGML_TYPE_F32;

    auto report = std::make_shared<std::optional<Napi::ThreadSafeFunction>>();
    if (info.Length() > 1 && !info[1].IsUndefined()) {
        if (!info[1].IsFunction()) refuse(env, "progress", "a function");
        report->emplace(Napi::ThreadSafeFunction::New(env, info[1].As<Napi::Function>(), "chorus progress", 0, 1));
    }
    auto held = std::make_shared<Held>();
    return promise<std::unique_ptr<Engine>>(
        env, *held->worker,
        [options, report] {
            const auto progress = [&](double fraction) {
                if (*report) (*report)->NonBlockingCall([fraction](Napi::Env env, Napi::Function callback) { callback.Call({Napi::Number::New(env, fraction)}); });
            };
            struct Release {
                std::optional<Napi::ThreadSafeFunction> & report;
                ~Release() { if (report) report->Release(); }
            } release{*report};
            return std::make_unique<Engine>(std::move(*options), progress);
        },
        [held](Napi::Env env, std::unique_ptr<Engine> & engine) -> Napi::Value {
            held->engine = std::move(engine);
            auto given = held;
            return env.GetInstanceData<Classes>()->engine.New({Napi::External<std::shared_ptr<Held>>::New(env, &given)});
        },
        Napi::Persistent(o));
}

template <size_t N> std::array<uint32_t, N> words(const Napi::Value & value, const std::string & path) {
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array || value.As<Napi::TypedArray>().ElementLength() != N) refuse(value.Env(), path, "a Uint32Array of " + std::to_string(N));
    std::array<uint32_t, N> out;
    std::copy_n(value.As<Napi::Uint32Array>().Data(), N, out.begin());
    return out;
}

Napi::Value PhiloxOf(const Napi::CallbackInfo & info) {
    const auto out = philox(words<4>(info[0], "counter"), words<2>(info[1], "key"));
    return typed<Napi::Uint32Array>(info.Env(), std::vector<uint32_t>(out.begin(), out.end()));
}

Napi::Value SampleOf(const Napi::CallbackInfo & info) {
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array) refuse(info.Env(), "logits", "a Float32Array");
    const auto given = info[0].As<Napi::Float32Array>();
    std::vector<float> logits(given.Data(), given.Data() + given.ElementLength());
    if (logits.empty()) refuse(info.Env(), "logits", "at least one value");
    const Sampling sampling = sampling_of(info[1], "sampling");
    const auto position = uint32_t(argument::integer(info[2], "position", 0, std::numeric_limits<int32_t>::max()));
    return Napi::Number::New(info.Env(), Sampler().sample(logits.data(), int(logits.size()), sampling, position, argument::int32s(info[3], "history")));
}

}  // namespace

Napi::Object Init(Napi::Env env, Napi::Object exports) {
    env.SetInstanceData(new Classes{Napi::Persistent(EngineWrap::define(env)), Napi::Persistent(PassWrap::define(env))});
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
