#pragma once

#include "dtrain/data/dataset.hpp"
#include "dtrain/train/plan.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace dtrain::train {

// Text that a program prints before it trains.

/// A number with a noun: "1 epoch", "3 epochs".
[[nodiscard]] std::string format_count(std::int64_t number, std::string_view what);

/// The network and the training, as several lines of text.
[[nodiscard]] std::string describe(const Plan& plan);
/// The data set, as one line.
[[nodiscard]] std::string describe(const data::Dataset& dataset);

} // namespace dtrain::train
