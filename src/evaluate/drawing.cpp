#include "dtrain/evaluate/drawing.hpp"

#include "dtrain/core/terminal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <string_view>

namespace dtrain::evaluate {
namespace {

constexpr std::size_t max_columns = 36; // leaves room for the prediction on a terminal of 80 columns
constexpr std::size_t max_rows = 40;
constexpr std::size_t max_classes = 12;
constexpr std::size_t bar_columns = 20;

/// Greys from 0 to 1.
struct Image {
    std::size_t rows = 0;
    std::size_t columns = 0;
    std::vector<double> values;
    [[nodiscard]] double at(std::size_t row, std::size_t column) const { return values[row * columns + column]; }
};

Image flattened(std::span<const float> values, const nn::Shape& shape) {
    Image image{shape.size() < 2 ? 1 : shape[shape.size() - 2], shape.back(), {}};
    const std::size_t size = image.rows * image.columns;
    image.values.resize(size);
    for (std::size_t i = 0; i < values.size(); ++i) {
        image.values[i % size] += static_cast<double>(values[i]) / static_cast<double>(values.size() / size);
    }
    const auto [min, max] = std::ranges::minmax(image.values);
    if (min < 0 || max > 1) {
        const double width = std::max(max - min, 1e-300);
        for (double& value : image.values) {
            value = (value - min) / width;
        }
    }
    return image;
}

/// Scales the image down to the maximum size by means over rectangles. The sides keep their ratio.
Image scaled_down(const Image& image) {
    const double factor = std::max({static_cast<double>(image.columns) / static_cast<double>(max_columns),
                                    static_cast<double>(image.rows) / static_cast<double>(max_rows), 1.0});
    const auto scaled = [&](std::size_t length) {
        return std::max<std::size_t>(1, static_cast<std::size_t>(std::lround(static_cast<double>(length) / factor)));
    };
    Image small{scaled(image.rows), scaled(image.columns), {}};
    for (std::size_t r = 0; r < small.rows; ++r) {
        for (std::size_t c = 0; c < small.columns; ++c) {
            const std::size_t first_row = r * image.rows / small.rows;
            const std::size_t end_row = (r + 1) * image.rows / small.rows;
            const std::size_t first_column = c * image.columns / small.columns;
            const std::size_t end_column = (c + 1) * image.columns / small.columns;
            double sum = 0;
            for (std::size_t i = first_row; i < end_row; ++i) {
                for (std::size_t j = first_column; j < end_column; ++j) {
                    sum += image.at(i, j);
                }
            }
            small.values.push_back(sum / static_cast<double>((end_row - first_row) * (end_column - first_column)));
        }
    }
    return small;
}

/// One of 24 greys, black or white of the palette of terminals with 256 colours.
int grey(double value) {
    const int level = static_cast<int>(std::lround(std::clamp(value, 0.0, 1.0) * 25));
    return level == 0 ? 16 : level == 25 ? 231 : 231 + level;
}

std::string_view shade(double value) {
    constexpr std::array<std::string_view, 5> shades{" ", "░", "▒", "▓", "█"};
    return shades[static_cast<std::size_t>(std::lround(std::clamp(value, 0.0, 1.0) * 4))];
}

std::string bar(double score) {
    constexpr std::array<std::string_view, 8> eighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const auto length = static_cast<std::size_t>(std::lround(std::clamp(score, 0.0, 1.0) * 8 * bar_columns));
    std::string text;
    for (std::size_t i = 0; i < length / 8; ++i) {
        text += "█";
    }
    text += eighths[length % 8];
    return text + std::string(bar_columns - (length + 7) / 8, ' ');
}

} // namespace

bool output_takes_colour() {
    const char* const no_color = std::getenv("NO_COLOR"); // https://no-color.org
    return core::output_terminal() && (no_color == nullptr || *no_color == '\0');
}

Picture draw_sample(std::span<const float> values, const nn::Shape& shape, bool colour) {
    const Image image = scaled_down(flattened(values, shape));
    Picture picture{image.columns, {}};
    for (std::size_t row = 0; row < image.rows; row += 2) {
        const bool both = row + 1 < image.rows;
        std::string line;
        for (std::size_t column = 0; column < image.columns; ++column) {
            const double upper = image.at(row, column);
            const double lower = both ? image.at(row + 1, column) : 0;
            if (colour) {
                line += fmt::format("\x1b[38;5;{};48;5;{}m▀", grey(upper), grey(lower));
            } else {
                line += shade(both ? (upper + lower) / 2 : upper);
            }
        }
        picture.lines.push_back(colour ? line + "\x1b[0m" : line);
    }
    return picture;
}

std::vector<std::string> draw_prediction(const Prediction& prediction, bool colour) {
    const bool wrong = prediction.label && *prediction.label != prediction.predicted;
    std::vector<std::string> lines;
    std::string verdict = fmt::format("predicted {}", prediction.predicted);
    if (prediction.label) {
        verdict = wrong ? fmt::format("{}, predicted {}  ✗ wrong", *prediction.label, prediction.predicted)
                        : fmt::format("{}  ✓", *prediction.label);
        verdict = colour ? fmt::format("\x1b[{}m{}\x1b[0m", wrong ? "1;31" : "32", verdict) : verdict;
    }
    lines.push_back(fmt::format("sample {}: {}", prediction.sample, verdict));

    std::vector<std::size_t> shown(prediction.scores.size());
    std::iota(shown.begin(), shown.end(), 0U);
    if (shown.size() > max_classes) {
        std::ranges::stable_sort(
            shown, [&](std::size_t a, std::size_t b) { return prediction.scores[a] > prediction.scores[b]; });
        shown.resize(max_classes);
    }
    for (const std::size_t i : shown) {
        const auto score = static_cast<double>(prediction.scores[i]);
        const auto number = static_cast<std::int64_t>(i);
        const char* const mark = number == prediction.predicted                    ? " ◀"
                                 : prediction.label && number == *prediction.label ? " ◁ true class"
                                                                                   : "";
        lines.push_back(fmt::format("{:>3} {} {:.4f}{}", i, bar(score), score, mark));
    }
    return lines;
}

std::string side_by_side(const Picture& picture, const std::vector<std::string>& text) {
    std::string all;
    for (std::size_t i = 0; i < std::max(picture.lines.size(), text.size()); ++i) {
        all += i < picture.lines.size() ? picture.lines[i] : std::string(picture.columns, ' ');
        all += i < text.size() ? "  " + text[i] : "";
        all += '\n';
    }
    return all;
}

} // namespace dtrain::evaluate
