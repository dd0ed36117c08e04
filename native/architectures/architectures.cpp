#include "architectures/architecture.hpp"

#include "weights/tensors.hpp"

// Each is a function of this name, in a file of this name.
#define ARCHITECTURES(each) \
    each(llama)             \
    each(qwen2)             \
    each(qwen3)

namespace chorus {

#define DECLARE(name) std::unique_ptr<Layers> name(Tensors & tensors, const Shape & shape, const Shard & shard);
ARCHITECTURES(DECLARE)
#undef DECLARE

namespace {

struct Named {
    const char * name;
    Architecture architecture;
};

#define ENTRY(name) {#name, name},
constexpr Named ALL[] = {ARCHITECTURES(ENTRY)};
#undef ENTRY

}  // namespace

Architecture architecture_of(const std::string & name) {
    for (const Named & each : ALL) {
        if (name == each.name) return each.architecture;
    }
    return nullptr;
}

std::string known_architectures() {
    std::string names;
    for (const Named & each : ALL) names += (names.empty() ? "" : ", ") + std::string(each.name);
    return names;
}

}  // namespace chorus
