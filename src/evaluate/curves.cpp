#include "dtrain/evaluate/curves.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>

namespace dtrain::evaluate {
namespace {

constexpr std::size_t label_columns = 8; // numbers, such as 1.23e-05
constexpr std::size_t max_curves = 3;
constexpr std::array<char, max_curves> ascii_marks{'*', 'o', '+'};
constexpr std::array<int, max_curves> colours{36, 33, 35}; // cyan, yellow, magenta: visible on black and on white
constexpr std::array<std::size_t, max_curves> dash_cells{0, 2, 1}; // length of dashes and gaps; 0 is a solid line

/// With up to four digits, as many as fit.
std::string label_of(double value) {
    int digits = 4;
    std::string label;
    do {
        label = fmt::format("{:.{}g}", value, digits);
    } while (label.size() > label_columns && --digits > 0);
    return label;
}

/// The values of all curves as heights between 0 and 1.
class Scale {
  public:
    explicit Scale(std::span<const Curve> curves) {
        for (const Curve& curve : curves) {
            for (const double value : curve.values) {
                if (std::isfinite(value)) {
                    low_ = std::min(low_, value);
                    high_ = std::max(high_, value);
                }
            }
        }
        logarithmic_ = low_ > 0 && high_ > 10 * low_;
    }

    [[nodiscard]] bool empty() const { return low_ > high_; }
    [[nodiscard]] bool logarithmic() const { return logarithmic_; }
    [[nodiscard]] double low() const { return low_; }
    [[nodiscard]] double high() const { return high_; }
    [[nodiscard]] double height(double value) const {
        const double width = place(high_) - place(low_);
        return width > 0 ? (place(value) - place(low_)) / width : 0.5;
    }

  private:
    [[nodiscard]] double place(double value) const { return logarithmic_ ? std::log(value) : value; }

    double low_ = std::numeric_limits<double>::infinity();
    double high_ = -std::numeric_limits<double>::infinity();
    bool logarithmic_ = false;
};

/// Cells of a terminal. In Unicode a cell has 2 x 4 dots, in ASCII one.
class Canvas {
  public:
    Canvas(std::size_t columns, std::size_t rows, const ChartStyle& style)
        : columns_(columns), style_(style), cells_(columns * rows) {}

    [[nodiscard]] std::size_t dots_per_cell() const { return style_.unicode ? 2 : 1; }
    [[nodiscard]] std::size_t width() const { return columns_ * dots_per_cell(); }
    [[nodiscard]] std::size_t height() const { return cells_.size() / columns_ * (style_.unicode ? 4 : 1); }

    /// `y` is counted from below.
    void set(std::size_t x, std::size_t y, std::size_t curve) {
        // Bits of U+2800 to U+28FF by row and column, from the Unicode standard, section 21.1.
        constexpr std::array<std::array<unsigned, 2>, 4> dots{{{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
        const std::size_t row = height() - 1 - y;
        Cell& cell = cells_[row / (style_.unicode ? 4 : 1) * columns_ + x / dots_per_cell()];
        cell.dots |= dots[row % 4][x % 2];
        cell.curve = curve;
    }

    [[nodiscard]] std::string line(std::size_t row) const {
        std::string text;
        for (std::size_t column = 0; column < columns_; ++column) {
            const Cell& cell = cells_[row * columns_ + column];
            if (cell.dots == 0) {
                text += ' ';
            } else if (!style_.unicode) {
                text += mark(std::string(1, ascii_marks[cell.curve]), cell.curve);
            } else {
                const unsigned point = 0x2800 + cell.dots;
                text += mark({static_cast<char>(0xE0 | point >> 12), static_cast<char>(0x80 | (point >> 6 & 0x3F)),
                              static_cast<char>(0x80 | (point & 0x3F))},
                             cell.curve);
            }
        }
        text.erase(text.find_last_not_of(' ') + 1);
        return text;
    }

    /// `text` in the colour of a curve, if there are colours.
    [[nodiscard]] std::string mark(const std::string& text, std::size_t curve) const {
        return style_.colour ? fmt::format("\x1b[{}m{}\x1b[0m", colours[curve], text) : text;
    }

    /// Whether a line in the style of the curve has a dot at x.
    [[nodiscard]] bool has_dash(std::size_t x, std::size_t curve) const {
        const std::size_t dash = style_.colour || !style_.unicode ? 0 : dash_cells[curve];
        return dash == 0 || x / dots_per_cell() / dash % 2 == 0;
    }

  private:
    struct Cell {
        unsigned dots = 0;
        std::size_t curve = 0;
    };
    std::size_t columns_;
    ChartStyle style_;
    std::vector<Cell> cells_;
};

/// The height at a place between the first (0) and the last (1) epoch, on the line between its neighbours.
std::optional<double> height_at(std::span<const double> values, double place, const Scale& scale) {
    const double index = place * static_cast<double>(values.size() - 1);
    const auto before = static_cast<std::size_t>(index);
    const std::size_t after = std::min(before + 1, values.size() - 1);
    const double part = index - static_cast<double>(before);
    if (!std::isfinite(values[before]) || (part > 0 && !std::isfinite(values[after]))) {
        return std::nullopt;
    }
    const double height = scale.height(values[before]);
    return part > 0 ? (1 - part) * height + part * scale.height(values[after]) : height;
}

void draw(const Curve& curve, std::size_t number, const Scale& scale, Canvas& canvas) {
    const std::size_t width = curve.values.size() < 2 ? curve.values.size() : canvas.width();
    bool follows = false; // the dot before this one was drawn, and is connected to it
    std::size_t last = 0;
    for (std::size_t x = 0; x < width; ++x) {
        const double place = width == 1 ? 0 : static_cast<double>(x) / static_cast<double>(width - 1);
        const std::optional<double> height = height_at(curve.values, place, scale);
        if (height) {
            const auto y = static_cast<std::size_t>(std::lround(*height * static_cast<double>(canvas.height() - 1)));
            const std::size_t low = follows ? std::min(y, last + 1) : y;
            const std::size_t high = follows ? std::max(y + 1, last) - 1 : y;
            for (std::size_t dot = low; dot <= high && canvas.has_dash(x, number); ++dot) {
                canvas.set(x, dot, number);
            }
            last = y;
        }
        follows = height.has_value();
    }
}

std::string legend(std::span<const Curve> curves, const Canvas& canvas, const ChartStyle& style) {
    constexpr std::size_t cells = 5;
    std::string text;
    for (std::size_t i = 0; i < curves.size(); ++i) {
        std::string sample(1, ascii_marks[i]);
        if (style.unicode) {
            sample.clear();
            for (std::size_t cell = 0; cell < cells; ++cell) {
                sample += canvas.has_dash(cell * canvas.dots_per_cell(), i) ? "⠤" : " ";
            }
        }
        text += fmt::format("  {} {}", canvas.mark(sample, i), curves[i].name);
    }
    return text;
}

} // namespace

std::vector<std::string> draw_curves(std::string_view title, std::span<const Curve> curves, std::int64_t first_epoch,
                                     std::int64_t last_epoch, const ChartStyle& style) {
    curves = curves.first(std::min(curves.size(), max_curves));
    const Scale scale(curves);
    const std::size_t columns = std::max<std::size_t>(style.columns, label_columns + 12) - label_columns - 2;
    Canvas canvas(columns, style.rows, style);
    for (std::size_t i = 0; i < curves.size() && !scale.empty(); ++i) {
        draw(curves[i], i, scale, canvas);
    }

    std::vector<std::string> lines;
    const std::string names = legend(curves, canvas, style);
    lines.push_back(fmt::format("{}{}", title, scale.logarithmic() ? ", log" : ""));
    std::size_t needed = lines.back().size();
    for (const Curve& curve : curves) {
        needed += curve.name.size() + (style.unicode ? 8 : 4);
    }
    lines.back() = needed <= style.columns ? lines.back() + names : lines.back().substr(0, style.columns);
    for (std::size_t row = 0; row < style.rows; ++row) {
        std::string label;
        if (!scale.empty() && (row == 0 || row + 1 == style.rows)) {
            label = label_of(row == 0 ? scale.high() : scale.low());
        }
        const std::string cells = canvas.line(row);
        lines.push_back(fmt::format("{:>{}} {}{}", label, label_columns, style.unicode ? "│" : "|", cells));
    }
    const std::string first = fmt::format("{}", first_epoch);
    const std::string last = first_epoch == last_epoch ? "" : fmt::format("{}", last_epoch);
    std::string axis = columns >= first.size() + last.size() + 7
                           ? fmt::format("{}{:^{}}{}", first, "epoch", columns - first.size() - last.size(), last)
                           : last;
    axis.erase(axis.find_last_not_of(' ') + 1);
    lines.push_back(fmt::format("{:{}} {}{}", "", label_columns, style.unicode ? "└" : "+", axis));
    return lines;
}

} // namespace dtrain::evaluate
