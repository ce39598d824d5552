#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace dtrain::parallel {

/// Totals that are reduced together with the gradients, so that they need no collective call of their own. First they
/// are totals of a shard or a rank; after the reduction, they are totals of all ranks.
struct StepTotals {
    double cost = 0;                  ///< sum over samples; converted to float for the reduction
    std::int64_t correct = 0;         ///< samples that were classified correctly
    std::int64_t stop_requests = 0;   ///< ranks that were asked to stop
    std::int64_t output_failures = 0; ///< ranks that failed to write output
    std::int64_t non_finite = 0;      ///< ranks with a parameter that is not finite

    /// The reason if the training has diverged, such as "the cost is nan".
    [[nodiscard]] std::optional<std::string> divergence() const;
};

// Totals are stored as floats after the gradients in the flat buffer (the tail), and are summed along the same tree.
// Sums of integers in float are exact only up to 2^24. So a count is stored as digits of 8 bits, one float each. A tree
// has at most 2^16 shards, so the sum of each digit is exact.

/// Number of digits; counts are below 2^40.
inline constexpr std::size_t count_digits = 5;
void write_count(std::int64_t count, std::span<float, count_digits> digits) noexcept;
/// The count from digits that may be sums of digits.
[[nodiscard]] std::int64_t read_count(std::span<const float, count_digits> digits) noexcept;

/// Number of floats in the tail: a cache line.
inline constexpr std::size_t tail_size = 16;
void write_totals(const StepTotals& totals, std::span<float> tail) noexcept;
[[nodiscard]] StepTotals read_totals(std::span<const float> tail) noexcept;

} // namespace dtrain::parallel
