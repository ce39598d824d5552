#include "dtrain/core/hash.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <new>

namespace dtrain::core {

struct Hash64::State {
    struct Free {
        void operator()(XXH3_state_t* memory) const noexcept { XXH3_freeState(memory); }
    };
    std::unique_ptr<XXH3_state_t, Free> state{XXH3_createState()};
};

Hash64::Hash64() : state_(std::make_unique<State>()) {
    if (!state_->state) {
        throw std::bad_alloc();
    }
    XXH3_64bits_reset(state_->state.get());
}

Hash64::~Hash64() = default;

void Hash64::update(std::span<const std::byte> bytes) {
    XXH3_64bits_update(state_->state.get(), bytes.data(), bytes.size());
}

std::uint64_t Hash64::digest() const {
    return XXH3_64bits_digest(state_->state.get());
}

std::uint64_t hash64(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
    return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::string hash128(std::span<const std::byte> bytes) {
    const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

} // namespace dtrain::core
