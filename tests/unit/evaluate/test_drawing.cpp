#include "dtrain/evaluate/drawing.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace dtrain::evaluate {
namespace {

using Lines = std::vector<std::string>;

TEST(DrawSample, ShadesTwoRowsAtOnce) {
    const std::vector<float> values{0, 1, 0.5F,  0.2F, //
                                    0, 1, 0.5F,  0.3F, //
                                    1, 0, 0.75F, 0.5F};
    const Picture picture = draw_sample(values, {3, 4}, false);
    EXPECT_EQ(picture.columns, 4U);
    EXPECT_EQ(picture.lines, (Lines{" █▒░", "█ ▓▒"})); // the last row has no partner
}

TEST(DrawSample, UsesHalfBlocksInColour) {
    const Picture picture = draw_sample(std::vector<float>{0, 1, 0.5F, 0}, {2, 2}, true);
    EXPECT_EQ(picture.lines, (Lines{"\x1b[38;5;16;48;5;244m▀\x1b[38;5;231;48;5;16m▀\x1b[0m"}));
}

TEST(DrawSample, AcceptsSequencesMapsAndRows) {
    EXPECT_EQ(draw_sample(std::vector<float>{-6, 2, 0, -2}, {4}, false).lines, (Lines{" █▓▒"}));
    // Two maps of 2 × 2, whose means are 0, 0.5, 1 and 0.5.
    EXPECT_EQ(draw_sample(std::vector<float>{0, 0, 1, 0.5F, 0, 1, 1, 0.5F}, {2, 2, 2}, false).lines, (Lines{"▒▒"}));
    EXPECT_EQ(draw_sample(std::vector<float>(6, 7.0F), {2, 3}, false).lines, (Lines{"   "})); // all values are equal
}

TEST(DrawSample, ScalesDownLargeSamples) {
    std::vector<float> values(80 * 144);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = i % 144 < 72 ? 0.0F : 1.0F;
    }
    const Picture picture = draw_sample(values, {80, 144}, false);
    EXPECT_EQ(picture.columns, 36U);
    EXPECT_EQ(picture.lines.size(), 10U);
    std::string line(18, ' ');
    for (int i = 0; i < 18; ++i) {
        line += "█";
    }
    EXPECT_EQ(picture.lines[9], line);
    EXPECT_EQ(draw_sample(std::vector<float>(1000), {1000}, false).columns, 36U);
    EXPECT_EQ(draw_sample(std::vector<float>(1000), {1000, 1}, false).lines.size(), 20U);
}

TEST(DrawPrediction, MarksWrongPredictions) {
    const std::vector<float> scores{0.25F, 0.0F, 0.7F};
    EXPECT_EQ(draw_prediction({4, 2, 2, scores}, false),
              (Lines{"sample 4: 2  ✓", "  0 █████                0.2500", "  1                      0.0000",
                     "  2 ██████████████       0.7000 ◀"}));
    EXPECT_EQ(draw_prediction({4, 0, 2, scores}, false),
              (Lines{"sample 4: 0, predicted 2  ✗ wrong", "  0 █████                0.2500 ◁ true class",
                     "  1                      0.0000", "  2 ██████████████       0.7000 ◀"}));
    EXPECT_EQ(draw_prediction({4, {}, 2, scores}, false)[0], "sample 4: predicted 2");
    EXPECT_EQ(draw_prediction({4, 0, 2, scores}, true)[0], "sample 4: \x1b[1;31m0, predicted 2  ✗ wrong\x1b[0m");
}

TEST(DrawPrediction, BarsHaveAFixedWidth) {
    const Lines lines = draw_prediction({0, {}, 1, std::vector<float>{-3, 40, 0.503125F}}, false);
    EXPECT_EQ(lines[1], "  0                      -3.0000");
    EXPECT_EQ(lines[2], "  1 ████████████████████ 40.0000 ◀");
    EXPECT_EQ(lines[3], "  2 ██████████▏          0.5031");
}

TEST(DrawPrediction, ShowsTheLargestScoresOfManyClasses) {
    std::vector<float> scores(200, 0.001F);
    scores[150] = 0.9F;
    scores[7] = 0.05F;
    const Lines lines = draw_prediction({0, 7, 150, scores}, false);
    ASSERT_EQ(lines.size(), 13U);
    EXPECT_EQ(lines[1].substr(0, 4), "150 ");
    EXPECT_EQ(lines[2].substr(0, 4), "  7 ");
    EXPECT_EQ(lines[3].substr(0, 4), "  0 ");
}

TEST(SideBySide, PadsTheShorterPicture) {
    EXPECT_EQ(side_by_side({2, {"▒▒"}}, {"a", "b"}), "▒▒  a\n    b\n");
    EXPECT_EQ(side_by_side({1, {"x", "y"}}, {"a"}), "x  a\ny\n");
}

} // namespace
} // namespace dtrain::evaluate
