#include "ops.hpp"

#include <algorithm>

#include "argument.hpp"

namespace chorus {

using argument::refuse;

namespace {

constexpr uint32_t MOST_OPS = 4096, MOST_LAYERS = 1024;
constexpr int MOST_CANDIDATES = 1024;

std::string at(const std::string & path, size_t i) { return path + "[" + std::to_string(i) + "]"; }

Op layers_of(const Napi::Object & o, const std::string & path) {
    Op op{};
    op.kind = Op::Kind::layers;
    op.from = int(argument::integer(o.Get("from"), path + ".from", 0, MOST_LAYERS));
    op.to = int(argument::integer(o.Get("to"), path + ".to", op.from, MOST_LAYERS));
    return op;
}

Op mlps_of(const Napi::Object & o, const std::string & path) {
    Op op{};
    op.kind = Op::Kind::mlps;
    op.layers = argument::integers(o.Get("layers"), path + ".layers", 0, MOST_LAYERS, MOST_LAYERS);
    const Napi::Array attended = argument::array(o.Get("attended"), path + ".attended", MOST_LAYERS);
    if (attended.Length() != op.layers.size()) refuse(o.Env(), path + ".attended", "one element a layer");
    for (uint32_t j = 0; j < op.layers.size(); ++j) {
        const Napi::Value given = attended.Get(j);
        op.attended.emplace_back();
        if (!given.IsNull()) op.attended.back() = argument::bytes(given, at(path + ".attended", j));
    }
    const Napi::Value whole = o.Get("whole");
    op.whole = !whole.IsUndefined() && argument::boolean(whole, path + ".whole");
    return op;
}

Op head_of(const Napi::Object & o, const std::string & path) {
    Op op{};
    op.kind = Op::Kind::head;
    op.rows = argument::int32s(o.Get("rows"), path + ".rows");
    const std::string want = argument::text(o.Get("want"), path + ".want");
    if (want == "tokens") {
        op.want = Op::Want::tokens;
        const Napi::Value top = o.Get("top");
        if (!top.IsUndefined()) op.top = int(argument::integer(top, path + ".top", 0, MOST_CANDIDATES));
        const Napi::Value given = o.Get("given");
        if (!given.IsUndefined()) op.given = argument::int32s(given, path + ".given");
    } else if (want == "candidates") {
        op.want = Op::Want::candidates;
        op.k = int(argument::integer(o.Get("k"), path + ".k", 1, MOST_CANDIDATES));
    } else if (want == "logits") {
        op.want = Op::Want::logits;
    } else {
        refuse(o.Env(), path + ".want", "\"tokens\", \"candidates\" or \"logits\"; got \"" + want + "\"");
    }
    return op;
}

Op op_of(const Napi::Object & o, const std::string & path) {
    const std::string kind = argument::text(o.Get("op"), path + ".op");
    Op op{};
    if (kind == "layers") return layers_of(o, path);
    if (kind == "mlps") return mlps_of(o, path);
    if (kind == "head") return head_of(o, path);
    if (kind == "embed") {
        op.kind = Op::Kind::embed;
    } else if (kind == "receive") {
        op.kind = Op::Kind::receive;
        op.hidden = argument::bytes(o.Get("hidden"), path + ".hidden");
    } else if (kind == "attend") {
        op.kind = Op::Kind::attend;
        op.layers = argument::integers(o.Get("layers"), path + ".layers", 0, MOST_LAYERS, MOST_LAYERS);
        const Napi::Value returned = o.Get("returned");
        op.returned = returned.IsUndefined() || argument::boolean(returned, path + ".returned");
    } else if (kind == "emit") {
        op.kind = Op::Kind::emit;
    } else {
        refuse(o.Env(), path + ".op", "embed, receive, layers, attend, mlps, emit or head; got \"" + kind + "\"");
    }
    return op;
}

}  // namespace

std::vector<Op> ops_of(const Napi::Value & value) {
    const Napi::Array list = argument::array(value, "ops", MOST_OPS);
    std::vector<Op> ops;
    for (uint32_t i = 0; i < list.Length() && i < MOST_OPS; ++i) {
        const std::string path = at("ops", i);
        ops.push_back(op_of(argument::object(list.Get(i), path), path));
    }
    if (ops.empty()) refuse(value.Env(), "ops", "at least one step");
    return ops;
}

void require_known(Napi::Env env, const std::vector<Op> & ops, const Options & options, int rows) {
    const int layers = options.shape.layers;
    const size_t bytes = size_t(rows) * size_t(options.shape.width) * sizeof(float);
    const auto held = [&](const std::vector<bool> & shard, int layer, const std::string & path) {
        if (layer >= layers || !shard[size_t(layer)]) refuse(env, path, "a layer of this shard; got " + std::to_string(layer));
    };
    const auto distinct = [&](const std::vector<int> & list, const std::string & path) {
        std::vector<bool> seen(size_t(layers), false);
        for (size_t j = 0; j < list.size(); ++j) {
            if (seen[size_t(list[j])]) refuse(env, at(path, j), "each layer once; got " + std::to_string(list[j]) + " again");
            seen[size_t(list[j])] = true;
        }
    };
    const auto hidden = [&](const std::vector<uint8_t> & given, const std::string & path) {
        if (given.size() != bytes) refuse(env, path, std::to_string(bytes) + " bytes; got " + std::to_string(given.size()));
    };
    for (size_t i = 0; i < ops.size(); ++i) {
        const Op & op = ops[i];
        const std::string path = at("ops", i);
        switch (op.kind) {
            case Op::Kind::embed:
                if (!options.shard.embed) refuse(env, path, "a shard with the embedding");
                break;
            case Op::Kind::receive: hidden(op.hidden, path + ".hidden"); break;
            case Op::Kind::layers:
                for (int layer = op.from; layer < op.to; ++layer) {
                    held(options.shard.attention, layer, path);
                    held(options.shard.mlp, layer, path);
                }
                break;
            case Op::Kind::attend:
                for (size_t j = 0; j < op.layers.size(); ++j) held(options.shard.attention, op.layers[j], at(path + ".layers", j));
                distinct(op.layers, path + ".layers");
                break;
            case Op::Kind::mlps:
                for (size_t j = 0; j < op.layers.size(); ++j) {
                    held(options.shard.mlp, op.layers[j], at(path + ".layers", j));
                    if (op.attended[j]) hidden(*op.attended[j], at(path + ".attended", j));
                }
                distinct(op.layers, path + ".layers");
                break;
            case Op::Kind::emit: break;
            case Op::Kind::head:
                if (!options.shard.head) refuse(env, path, "a shard with the head");
                if (i + 1 < ops.size()) refuse(env, at("ops", i + 1), "nothing after a head");
                if (op.rows.empty() || op.rows.size() > size_t(Engine::max_rows)) refuse(env, path + ".rows", "1 to " + std::to_string(Engine::max_rows) + " rows");
                for (size_t j = 0; j < op.rows.size(); ++j) {
                    if (op.rows[j] < 0 || op.rows[j] >= rows) refuse(env, at(path + ".rows", j), "a row of 0 to " + std::to_string(rows - 1) + "; got " + std::to_string(op.rows[j]));
                }
                if (!op.given.empty() && op.given.size() != op.rows.size()) refuse(env, path + ".given", "one token a row");
                for (size_t j = 0; j < op.given.size(); ++j) {
                    if (op.given[j] < 0 || op.given[j] >= options.shape.vocab) refuse(env, at(path + ".given", j), "a token of the vocabulary; got " + std::to_string(op.given[j]));
                }
                if (op.top > options.shape.vocab) refuse(env, path + ".top", "at most " + std::to_string(options.shape.vocab) + " alternatives, the vocabulary; got " + std::to_string(op.top));
                if (op.k > options.shape.vocab) refuse(env, path + ".k", "at most " + std::to_string(options.shape.vocab) + " candidates, the vocabulary; got " + std::to_string(op.k));
                break;
        }
    }
}

void require_order(const std::vector<Op> & ops, const Pass & pass) {
    bool has_h = pass.has_h, has_first = pass.has_first;
    std::vector<int> attended;
    for (size_t i = 0; i < ops.size(); ++i) {
        const Op & op = ops[i];
        const std::string path = at("ops", i);
        if (op.kind == Op::Kind::embed || op.kind == Op::Kind::receive) has_h = true;
        if (!has_h) throw std::invalid_argument(path + ": expected an embed or a receive before it");
        if (op.kind == Op::Kind::attend) {
            has_first = true;
            attended.insert(attended.end(), op.layers.begin(), op.layers.end());
        }
        if (op.kind != Op::Kind::mlps) continue;
        if (op.whole && !has_first) throw std::invalid_argument(path + ".whole: expected an attend before it");
        for (size_t j = 0; j < op.layers.size(); ++j) {
            if (op.attended[j] || pass.kept.count(op.layers[j]) != 0 || std::count(attended.begin(), attended.end(), op.layers[j]) != 0) continue;
            throw std::invalid_argument(at(path + ".attended", j) + ": expected bytes: this shard's attend kept nothing for layer " + std::to_string(op.layers[j]));
        }
    }
}

}  // namespace chorus
