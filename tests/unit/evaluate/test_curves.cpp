#include "dtrain/evaluate/curves.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace dtrain::evaluate {
namespace {

using Lines = std::vector<std::string>;

constexpr double missing = std::numeric_limits<double>::quiet_NaN();

/// Columns on a terminal of text without escape sequences: every byte but the later ones of a character.
std::size_t columns_of(const std::string& text) {
    std::size_t count = 0;
    for (const char byte : text) {
        count += (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U ? 1 : 0;
    }
    return count;
}

TEST(DrawCurves, DrawsLinesInAscii) {
    const std::vector<double> train{4, 3, 2, 1};
    const std::vector<double> test{4, 4, 4, 4};
    const std::vector<Curve> curves{{"training", train}, {"test", test}};
    EXPECT_EQ(draw_curves("cost", curves, 1, 4, {.columns = 32, .rows = 4, .unicode = false}),
              (Lines{"cost  * training  o test",         //
                     "       4 |oooooooooooooooooooooo", //
                     "         |    *******",            //
                     "         |           *******",     //
                     "       1 |                  ****", //
                     "         +1       epoch        4"}));
}

TEST(DrawCurves, DrawsDotsOfBraille) {
    const std::vector<double> values{0, 7}; // eight rows of dots in two lines
    const Lines lines = draw_curves("x", std::vector<Curve>{{"a", values}}, 1, 2, {.columns = 24, .rows = 2});
    EXPECT_EQ(lines, (Lines{"x  ⠤⠤⠤⠤⠤ a",               //
                            "       7 │       ⣀⣀⠤⠤⠒⠒⠉", //
                            "       0 │⣀⠤⠤⠒⠒⠉⠉",        //
                            "         └1   epoch    2"}));
}

TEST(DrawCurves, ShowsCurvesByDashesOrColours) {
    const std::vector<double> values{1, 1};
    const std::vector<Curve> curves{{"a", values}, {"b", values}, {"c", values}};
    const ChartStyle plain{.columns = 40, .rows = 1};
    EXPECT_EQ(draw_curves("x", curves, 1, 2, plain)[0], "x  ⠤⠤⠤⠤⠤ a  ⠤⠤  ⠤ b  ⠤ ⠤ ⠤ c");
    EXPECT_EQ(draw_curves("x", std::vector{curves[1]}, 1, 2, plain).size(), 3U);
    const ChartStyle coloured{.columns = 40, .rows = 1, .colour = true};
    EXPECT_EQ(draw_curves("x", curves, 1, 2, coloured)[0],
              "x  \x1b[36m⠤⠤⠤⠤⠤\x1b[0m a  \x1b[33m⠤⠤⠤⠤⠤\x1b[0m b  \x1b[35m⠤⠤⠤⠤⠤\x1b[0m c");
}

TEST(DrawCurves, IsLogarithmicOverADecade) {
    const std::vector<double> values{1000, 100, 10};
    const ChartStyle style{.columns = 24, .rows = 3, .unicode = false};
    EXPECT_EQ(draw_curves("cost", std::vector<Curve>{{"a", values}}, 1, 3, style),
              (Lines{"cost, log  * a", "    1000 |****", "         |    ******", "      10 |          ****",
                     "         +1   epoch    3"}));
    const std::vector<double> with_zero{1000, 0};
    EXPECT_EQ(draw_curves("cost", std::vector<Curve>{{"a", with_zero}}, 1, 2, style)[0], "cost  * a");
}

TEST(DrawCurves, AcceptsMissingValuesAndFewEpochs) {
    const ChartStyle style{.columns = 24, .rows = 3, .unicode = false};
    const std::vector<double> gap{1, 1, missing, 1, 1};
    EXPECT_EQ(draw_curves("c", std::vector<Curve>{{"a", gap}}, 1, 5, style)[2], "         |****      ****");
    const std::vector<double> one{0.25};
    EXPECT_EQ(draw_curves("c", std::vector<Curve>{{"a", one}}, 7, 7, style),
              (Lines{"c  * a", "    0.25 |", "         |*", "    0.25 |", "         +7    epoch"}));
    const std::vector<double> unknown{missing, std::numeric_limits<double>::infinity()};
    EXPECT_EQ(draw_curves("c", std::vector<Curve>{{"a", unknown}}, 1, 2, style)[1], "         |");
    EXPECT_EQ(draw_curves("c", std::vector<Curve>{{"a", {}}}, 0, 0, style)[1], "         |");
}

TEST(DrawCurves, LabelsHaveTheirExponents) {
    for (const auto& [value, label] : {std::pair(1.2345e-5, "1.23e-05"),
                                       {1.2345e-100, "1.2e-100"},
                                       {98765432.0, "9.88e+07"},
                                       {0.012349, " 0.01235"},
                                       {-1.2345e-5, "-1.2e-05"}}) {
        const std::vector<double> values{value, value};
        const std::vector<Curve> curves{{"training", values}};
        const Lines lines = draw_curves("cost", curves, 1, 2, {40, 3, false, false});
        EXPECT_EQ(lines[1].substr(0, 9), label + std::string(" "));
    }
}

TEST(DrawCurves, FitsIntoAnyWidth) {
    std::vector<double> values;
    for (int i = 0; i < 5000; ++i) {
        values.push_back(1.23456789e-5 * std::exp(-i / 500.0) * (1.5 + std::sin(i)));
    }
    const std::vector<Curve> curves{{"training", values}, {"test", values}, {"validation", values}};
    for (const bool unicode : {false, true}) {
        for (const std::size_t columns : {24U, 31U, 40U, 80U, 200U}) {
            const Lines lines = draw_curves("accuracy, %", curves, 1, 5000, {columns, 5, unicode, false});
            EXPECT_EQ(lines.size(), 7U);
            for (const std::string& line : lines) {
                EXPECT_LE(columns_of(line), columns) << line;
            }
        }
    }
}

} // namespace
} // namespace dtrain::evaluate
