#pragma once

#include "dtrain/data/dataset.hpp"
#include "dtrain/train/plan.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace dtrain::train {

// What a program tells its user before it trains.

/// "1 epoch", "3 epochs"
[[nodiscard]] std::string format_count(std::int64_t number, std::string_view what);

/// What is about to be trained and how, as text of several lines.
[[nodiscard]] std::string describe(const Plan& plan);
/// The data, in a line.
[[nodiscard]] std::string describe(const data::Dataset& dataset);

} // namespace dtrain::train
