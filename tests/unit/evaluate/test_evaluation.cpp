#include "dtrain/evaluate/evaluation.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace dtrain::evaluate {
namespace {

Evaluation evaluation_of_five() {
    Evaluation evaluation;
    evaluation.classes = 3;
    evaluation.outputs = {0.1F, 0.9F, 0.0F,  // right
                          0.6F, 0.5F, 0.1F,  // wrong by 0.1
                          0.2F, 0.1F, 0.9F,  // wrong by 0.7
                          0.9F, 0.8F, 0.85F, // wrong by 0.1, to rounding
                          0.8F, 0.0F, 0.1F}; // wrong by 0.7, to rounding
    evaluation.predictions = {1, 0, 2, 0, 0};
    evaluation.labels = {1, 1, 0, 1, 2};
    evaluation.correct = 1;
    return evaluation;
}

TEST(Evaluation, CountsPredictionsByTrueClass) {
    const Evaluation evaluation = evaluation_of_five();
    EXPECT_EQ(evaluation.confusion(), (std::vector<std::int64_t>{0, 0, 1, 2, 1, 0, 1, 0, 0}));
    EXPECT_EQ(evaluation.accuracy(), 0.2);
}

TEST(Evaluation, SortsWrongPredictionsByTheirMargin) {
    Evaluation evaluation = evaluation_of_five();
    evaluation.outputs[2 * 3 + 2] = 0.95F;
    const std::vector<float> scores = class_scores(evaluation, "quadratic");
    EXPECT_EQ(scores, evaluation.outputs);
    EXPECT_EQ(worst_mistakes(evaluation, scores, 2), (std::vector<std::int64_t>{2, 4}));
    EXPECT_EQ(worst_mistakes(evaluation, scores, 9).size(), 4U);
    evaluation.outputs = std::vector<float>(15, 0.5F); // equally wrong: in their order
    EXPECT_EQ(worst_mistakes(evaluation, evaluation.outputs, 9), (std::vector<std::int64_t>{1, 2, 3, 4}));
}

TEST(Evaluation, ScoresAreProbabilitiesIfTheCostHasTheSoftmax) {
    Evaluation evaluation;
    evaluation.classes = 2;
    evaluation.outputs = {1000, 1000 + std::log(3.0F), -5, -5};
    const std::vector<float> scores = class_scores(evaluation, "cross_entropy");
    EXPECT_NEAR(scores[0], 0.25F, 1e-4);
    EXPECT_NEAR(scores[1], 0.75F, 1e-4);
    EXPECT_EQ(scores[2], 0.5F);
}

} // namespace
} // namespace dtrain::evaluate
