#include "dtrain/nn/cost.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace dtrain::nn {
namespace {

using core::MatrixView;

const std::vector<std::uint8_t> labels{2, 0};
const std::vector<double> outputs{0.1, -0.4, 0.7, 1.5, 0.0, -2.0}; // 2 × 3

double cost(std::string_view name, std::span<const double> values, std::span<double> gradient = {}) {
    return find_cost<double>(name)({values.data(), 2, 3}, labels,
                                   gradient.empty() ? MatrixView<double>{} : MatrixView<double>{gradient.data(), 2, 3},
                                   0);
}

TEST(Cost, QuadraticIsTheSumOfSquaresWithoutTheFactorHalf) {
    EXPECT_NEAR(cost("quadratic", outputs), 0.01 + 0.16 + 0.09 + 0.25 + 0.0 + 4.0, 1e-14);
}

TEST(Cost, CrossEntropyIsTheNegativeLogOfTheSoftmax) {
    const double first = std::exp(0.7) / (std::exp(0.1) + std::exp(-0.4) + std::exp(0.7));
    const double second = std::exp(1.5) / (std::exp(1.5) + std::exp(0.0) + std::exp(-2.0));
    EXPECT_NEAR(cost("cross_entropy", outputs), -std::log(first) - std::log(second), 1e-14);
}

TEST(Cost, GradientIsTheDerivativeOfTheSum) {
    for (const std::string& name : cost_names()) {
        std::vector<double> gradient(6, std::numeric_limits<double>::quiet_NaN());
        EXPECT_EQ(cost(name, outputs, gradient), cost(name, outputs));
        constexpr double h = 1e-6;
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            std::vector<double> up = outputs;
            std::vector<double> down = outputs;
            up[i] += h;
            down[i] -= h;
            EXPECT_NEAR(gradient[i], (cost(name, up) - cost(name, down)) / (2 * h), 1e-8) << name << ' ' << i;
        }
    }
}

TEST(Cost, IsAccumulatedInDouble) {
    constexpr std::size_t rows = 20'000;
    const std::vector<float> values(rows, 0.9F);
    const std::vector<std::uint8_t> ones(rows, 1); // class 1 does not exist: each row costs exactly 0.9²
    const double sum = find_cost<float>("quadratic")({values.data(), rows, 1}, ones, {}, 0);
    EXPECT_NEAR(sum, rows * static_cast<double>(0.9F) * static_cast<double>(0.9F), 1e-9 * rows);
}

TEST(Cost, CrossEntropyDoesNotOverflow) {
    const std::vector<float> values{1e4F, -1e4F, 0.0F, -1e4F, 1e4F, 0.0F};
    std::vector<float> gradient(6);
    const std::vector<std::uint8_t> first(2, 0);
    const double sum = find_cost<float>("cross_entropy")({values.data(), 2, 3}, first, {gradient.data(), 2, 3}, 0);
    EXPECT_NEAR(sum, 0 + 2e4, 1e-9);
    EXPECT_EQ(gradient, (std::vector<float>{0, 0, 0, -1, 1, 0}));
}

TEST(Cost, OfNaNIsNaN) {
    for (const std::string& name : cost_names()) {
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            std::vector<double> values = outputs;
            values[i] = std::numeric_limits<double>::quiet_NaN();
            EXPECT_TRUE(std::isnan(cost(name, values))) << name << ' ' << i;
        }
    }
}

TEST(Cost, OfInfiniteOutputsIsNotFinite) {
    for (const std::string& name : cost_names()) {
        std::vector<double> values = outputs;
        values[1] = std::numeric_limits<double>::infinity();
        EXPECT_FALSE(std::isfinite(cost(name, values))) << name;
    }
}

TEST(Softmax, IsNormalisedExponentials) {
    const std::vector<double> z{800, 799, 790};
    const double total = 1 + std::exp(-1.0) + std::exp(-10.0);
    std::vector<double> p = z;
    const auto sum = softmax<double>(p, p);
    EXPECT_EQ(sum.largest, 800);
    EXPECT_NEAR(sum.total, total, 1e-15);
    for (std::size_t j = 0; j < p.size(); ++j) {
        EXPECT_NEAR(p[j], std::exp(z[j] - 800) / total, 1e-15);
    }
    EXPECT_EQ(softmax<double>(z, {}).total, sum.total);
}

// So a batch in parts has the same bits as a batch in one piece.
TEST(Cost, ContinuesASum) {
    for (const std::string& name : cost_names()) {
        const auto function = find_cost<double>(name);
        const double first = function({outputs.data(), 1, 3}, labels, {}, 0);
        EXPECT_EQ(function({outputs.data() + 3, 1, 3}, std::span(labels).subspan(1), {}, first), cost(name, outputs));
    }
}

TEST(Cost, OfNoRowsAddsNothing) {
    const float none = 0;
    for (const std::string& name : cost_names()) {
        EXPECT_EQ(find_cost<float>(name)({&none, 0, 3}, {}, {}, 0.5), 0.5);
    }
}

TEST(Cost, IsFoundByName) {
    EXPECT_EQ(cost_names(), (std::vector<std::string>{"quadratic", "cross_entropy"}));
    EXPECT_FALSE(needs_linear_output("quadratic"));
    EXPECT_TRUE(needs_linear_output("cross_entropy"));
    EXPECT_THROW((void)find_cost<float>("squared"), std::out_of_range);
}

} // namespace
} // namespace dtrain::nn
