#pragma once

#include "dtrain/nn/parameters.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dtrain::evaluate {

/// Whether standard output is a terminal and NO_COLOR is not set (https://no-color.org).
[[nodiscard]] bool output_takes_colour();

/// Lines of text, each with the same number of columns.
struct Picture {
    std::size_t columns = 0;
    std::vector<std::string> lines;
};

/// Draws a sample with at most 36 columns, two rows of pixels per line. The picture has the sample's last two
/// dimensions, scaled down if needed, and the mean over the other ones. A sample of one dimension is one row. Values
/// from 0 to 1 are drawn from black to white; if others occur, the range is from min to max. `colour`: 24 greys by
/// escape sequences, or else shades of Unicode.
[[nodiscard]] Picture draw_sample(std::span<const float> values, const nn::Shape& shape, bool colour);

/// The prediction of a network for one sample.
struct Prediction {
    std::int64_t sample = 0;
    std::optional<std::int64_t> label;
    std::int64_t predicted = 0;
    std::span<const float> scores; ///< of every class, 0 to 1
};
/// A line with true and predicted class, and a bar for the score of each class. With more than twelve classes: the
/// twelve largest scores, in descending order.
[[nodiscard]] std::vector<std::string> draw_prediction(const Prediction& prediction, bool colour);

/// Picture and text next to each other. Every line ends with a newline.
[[nodiscard]] std::string side_by_side(const Picture& picture, const std::vector<std::string>& text);

} // namespace dtrain::evaluate
