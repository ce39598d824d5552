#include "dtrain/train/evaluator.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace dtrain::train {
namespace {

TEST(PredictedClass, IsTheFirstOfTheLargest) {
    EXPECT_EQ(predicted_class(std::vector<float>{0.1F, 0.7F, 0.2F}), 1U);
    EXPECT_EQ(predicted_class(std::vector<float>{-3, -1, -1}), 1U);
    EXPECT_EQ(predicted_class(std::vector<float>{5}), 0U);
}

} // namespace
} // namespace dtrain::train
