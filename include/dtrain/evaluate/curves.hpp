#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::evaluate {

/// A value per epoch. Values that are not finite are left out.
struct Curve {
    std::string_view name;
    std::span<const double> values;
};

/// What a chart may use of the terminal.
struct ChartStyle {
    std::size_t columns = 80; ///< at least 24
    std::size_t rows = 8;     ///< without title and axis, at least 1
    bool unicode = true;      ///< braille patterns and box drawing, or else ASCII
    bool colour = false;      ///< a colour per curve, or else dashes
};

/// Draws up to three curves of equal length in one chart: a title with the names of the curves, style.rows lines, and
/// an axis from `first_epoch` to `last_epoch`. No line has more than style.columns columns. The scale is logarithmic,
/// and the title says so, if all values are positive and the largest is more than ten times the smallest. Returns lines
/// without line ends.
[[nodiscard]] std::vector<std::string> draw_curves(std::string_view title, std::span<const Curve> curves,
                                                   std::int64_t first_epoch, std::int64_t last_epoch,
                                                   const ChartStyle& style);

} // namespace dtrain::evaluate
