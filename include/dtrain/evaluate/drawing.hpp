#pragma once

#include "dtrain/nn/parameters.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dtrain::evaluate {

/// Whether standard output is a terminal and nobody has said NO_COLOR.
[[nodiscard]] bool output_takes_colour();

/// Lines of text that fill as many columns each.
struct Picture {
    std::size_t columns = 0;
    std::vector<std::string> lines;
};

/// A sample as a picture of at most 36 columns, two of its rows in a line: its last two dimensions, scaled down if they
/// are larger, the mean over those before; one of one dimension is a row. Values from 0 to 1 go from black to white,
/// others from the least to the largest of them. In 24 greys by escape sequences, or else in shades of Unicode.
[[nodiscard]] Picture draw_sample(std::span<const float> values, const nn::Shape& shape, bool colour);

/// What a network says of one sample.
struct Opinion {
    std::int64_t sample = 0;
    std::optional<std::int64_t> label;
    std::int64_t prediction = 0;
    std::span<const float> strengths; ///< of every class
};
/// Who was taken for what, and bars of the strengths, those of more than twelve classes being the strongest, from the
/// strongest down.
[[nodiscard]] std::vector<std::string> draw_opinion(const Opinion& opinion, bool colour);

/// Both side by side, each line ended.
[[nodiscard]] std::string side_by_side(const Picture& picture, const std::vector<std::string>& text);

} // namespace dtrain::evaluate
