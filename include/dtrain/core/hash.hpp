#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace dtrain::core {

/// Computes XXH3-64 of bytes that arrive in pieces (`xxhsum -H3` gives the same value). It distinguishes data sets; it
/// is not a cryptographic hash.
class Hash64 {
  public:
    Hash64();
    ~Hash64();
    void update(std::span<const std::byte> bytes);
    [[nodiscard]] std::uint64_t digest() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// XXH3-64 of bytes that are in memory, with a seed.
[[nodiscard]] std::uint64_t hash64(std::span<const std::byte> bytes, std::uint64_t seed) noexcept;

/// XXH3-128 as 32 hexadecimal digits.
[[nodiscard]] std::string hash128(std::span<const std::byte> bytes);

} // namespace dtrain::core
