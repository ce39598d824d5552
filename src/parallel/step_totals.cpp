#include "dtrain/parallel/step_totals.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace dtrain::parallel {
namespace {

constexpr int digit_bits = 8;

/// The position of each total in the tail. Counts of ranks are far below 2^24, so they need no digits.
struct Place {
    static constexpr std::size_t cost = 0;
    static constexpr std::size_t stop_requests = 1;
    static constexpr std::size_t output_failures = 2;
    static constexpr std::size_t non_finite = 3;
    static constexpr std::size_t correct = 4;
};
static_assert(Place::correct + count_digits <= tail_size);

} // namespace

std::optional<std::string> StepTotals::divergence() const {
    if (!std::isfinite(cost)) {
        return fmt::format("the cost is {}", std::isnan(cost) ? std::fabs(cost) : cost);
    }
    return non_finite > 0 ? std::optional<std::string>("a parameter is not finite") : std::nullopt;
}

void write_count(std::int64_t count, std::span<float, count_digits> digits) noexcept {
    for (float& digit : digits) {
        digit = static_cast<float>(count & ((1 << digit_bits) - 1));
        count >>= digit_bits;
    }
}

std::int64_t read_count(std::span<const float, count_digits> digits) noexcept {
    std::int64_t count = 0;
    for (std::size_t i = count_digits; i-- > 0;) {
        count = (count << digit_bits) + static_cast<std::int64_t>(digits[i]);
    }
    return count;
}

void write_totals(const StepTotals& totals, std::span<float> tail) noexcept {
    std::ranges::fill(tail, 0.0F);
    tail[Place::cost] = static_cast<float>(totals.cost);
    tail[Place::stop_requests] = static_cast<float>(totals.stop_requests);
    tail[Place::output_failures] = static_cast<float>(totals.output_failures);
    tail[Place::non_finite] = static_cast<float>(totals.non_finite);
    write_count(totals.correct, tail.subspan<Place::correct, count_digits>());
}

StepTotals read_totals(std::span<const float> tail) noexcept {
    const auto number = [&](std::size_t place) { return static_cast<std::int64_t>(tail[place]); };
    return {static_cast<double>(tail[Place::cost]), read_count(tail.subspan<Place::correct, count_digits>()),
            number(Place::stop_requests), number(Place::output_failures), number(Place::non_finite)};
}

} // namespace dtrain::parallel
