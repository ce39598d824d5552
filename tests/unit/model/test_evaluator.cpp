#include "dtrain/model/evaluator.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace dtrain::model {
namespace {

TEST(PredictedClass, IsTheFirstMaximum) {
    EXPECT_EQ(predicted_class(std::vector<float>{0.1F, 0.7F, 0.2F}), 1U);
    EXPECT_EQ(predicted_class(std::vector<float>{-3, -1, -1}), 1U);
    EXPECT_EQ(predicted_class(std::vector<float>{5}), 0U);
}

TEST(CountCorrect, AgreesWithThePredictedClassAlsoInTies) {
    const std::vector<std::vector<float>> rows{{0, 0, 0}, {-3, -1, -1}, {2, 1, 2}, {5, 6, 7}};
    std::vector<float> outputs;
    std::vector<std::uint8_t> labels;
    std::int64_t expected = 0;
    for (const std::vector<float>& row : rows) {
        for (std::uint8_t label = 0; label < 3; ++label) {
            const std::int64_t correct = predicted_class(row) == label ? 1 : 0;
            EXPECT_EQ(count_correct({row.data(), 1, 3}, std::span(&label, 1)), correct);
            outputs.insert(outputs.end(), row.begin(), row.end());
            labels.push_back(label);
            expected += correct;
        }
    }
    EXPECT_EQ(count_correct({outputs.data(), labels.size(), 3}, labels), expected);
}

TEST(CountCorrect, CountsNaNAsWrong) {
    const std::vector<float> outputs{std::numeric_limits<float>::quiet_NaN(), 1};
    for (std::uint8_t label = 0; label < 2; ++label) {
        EXPECT_EQ(count_correct({outputs.data(), 1, 2}, std::span(&label, 1)), 0);
    }
}

} // namespace
} // namespace dtrain::model
