#pragma once

#include "dtrain/core/partition.hpp"
#include "dtrain/data/dataset.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace dtrain::data {

/// Digits that are drawn instead of read: images of 28 × 28 bytes, as MNIST's. Each sample is a pure function of (which
/// set, its number), the same bits on every x86, so that ranks draw theirs by themselves. The seed of a model has no
/// part in it, nor has a set's size.
namespace synthetic {

/// Stands for these very pictures: who changes them has to change it, so that no run goes on with others.
inline constexpr const char* name = "synthetic digits";
inline constexpr std::size_t side = 28; ///< pixels
inline constexpr std::size_t classes = 10;

enum class Set : std::uint32_t { train, test };

/// Draws one sample into `image`, side × side bytes by rows, and returns its label.
std::uint8_t draw(Set set, std::int64_t number, std::span<std::uint8_t> image) noexcept;

/// How many samples there are: 60,000 for training and 10,000 for tests, or as many as `limits` say.
[[nodiscard]] DatasetHeader header(const Limits& limits) noexcept;

/// The most samples that this machine has memory for if it holds a `share` (0 to 1) of them.
[[nodiscard]] std::int64_t most_samples(double share) noexcept;

/// The samples `local` of a set of `total`.
[[nodiscard]] Split make_split(Set set, std::int64_t total, core::Range local);

} // namespace synthetic
} // namespace dtrain::data
