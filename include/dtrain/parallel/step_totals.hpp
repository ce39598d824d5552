#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace dtrain::parallel {

/// What ranks tell each other beside their gradients, so that agreeing on it costs no collective of its own: of a shard
/// or a rank, and after a sum of all.
struct StepTotals {
    double cost = 0;                  ///< sum over samples; a float while it travels
    std::int64_t correct = 0;         ///< samples that were classified correctly
    std::int64_t stop_requests = 0;   ///< ranks that were asked to stop
    std::int64_t output_failures = 0; ///< ranks that cannot write
    std::int64_t non_finite = 0;      ///< ranks that have a parameter that is not finite

    /// Why the training has diverged, if it has: "the cost is nan".
    [[nodiscard]] std::optional<std::string> divergence() const;
};

// Totals travel as floats behind the gradients, in the arena and along the tree of these. Float addition is exact up to
// 2^24 only, so a count is cut into digits of 8 bits, a float each: of the 2^16 shards that a tree has at most, each
// digit's sum is exact.

/// Digits of a count below 2^40.
inline constexpr std::size_t count_digits = 5;
void write_count(std::int64_t count, std::span<float, count_digits> digits) noexcept;
/// Of digits that were added up.
[[nodiscard]] std::int64_t read_count(std::span<const float, count_digits> digits) noexcept;

/// Floats behind the gradients: a cache line.
inline constexpr std::size_t tail_size = 16;
void write_totals(const StepTotals& totals, std::span<float> tail) noexcept;
[[nodiscard]] StepTotals read_totals(std::span<const float> tail) noexcept;

} // namespace dtrain::parallel
