#include "dtrain/core/random.hpp"
#include "dtrain/nn/cost.hpp"
#include "dtrain/nn/network.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace dtrain::nn {
namespace {

constexpr std::size_t inputs = 6;
constexpr std::size_t classes = 4;
const std::vector<std::size_t> shards{0, 3, 3, 4, 9}; // the second shard has no samples in this step
constexpr std::size_t rows = 9;

struct Case {
    std::string layers;
    std::string cost;
};

/// Every activation as the only layer, as a hidden one, and in networks of three layers, with both costs.
std::vector<Case> make_cases() {
    const std::vector<std::string> activations{"linear", "sigmoid", "relu", "tanh"};
    std::vector<Case> cases;
    for (const std::string& cost : cost_names()) {
        for (const std::string& last : activations) {
            if (needs_linear_output(cost) && last != "linear") {
                continue;
            }
            cases.push_back({"dense 4 " + last, cost});
            for (const std::string& hidden : activations) {
                cases.push_back({"dense 7 " + hidden + ", dense 4 " + last, cost});
                cases.push_back({"dense 7 " + hidden + ", dense 5 sigmoid, dense 4 " + last, cost});
                cases.push_back({"dense 3 tanh, dense 17 " + hidden + ", dense 4 " + last, cost});
            }
        }
    }
    return cases;
}

/// Cost and gradient of a network in arithmetic of type Real, on fixed parameters and samples that are the same in
/// float and double. No unit lies on the kink of ReLU because biases are drawn too.
template <class Real>
class Problem {
  public:
    explicit Problem(const Case& c) : network_(c.layers, {inputs}), cost_(find_cost<Real>(c.cost)) {
        network_.reserve(rows);
        parameters_ = draw(network_.layout().arena_size(), 1);
        x_ = draw(rows * inputs, 2);
        for (std::size_t n = 0; n < rows; ++n) {
            labels_.push_back(static_cast<std::uint8_t>(n % classes));
        }
    }

    [[nodiscard]] std::vector<Real>& parameters() { return parameters_; }
    [[nodiscard]] const ParameterLayout& layout() const { return network_.layout(); }

    [[nodiscard]] double cost() { return cost_(network_.forward(parameters_, x()), labels_, {}); }

    [[nodiscard]] std::vector<Real> gradient() {
        const auto outputs = network_.forward(parameters_, x());
        (void)cost_(outputs, labels_, network_.output_gradient(rows));
        // Whatever an arena held before must not matter.
        std::vector<Real> arena(network_.layout().arena_size(), std::numeric_limits<Real>::quiet_NaN());
        ShardGradients<Real> sums({{0, 4}}, {std::span(arena)}, 1);
        network_.backward(parameters_, shards, x(), sums);
        return arena;
    }

  private:
    static std::vector<Real> draw(std::size_t size, std::uint64_t index) {
        core::RandomStream random(2, core::Purpose::initialisation, 0, index);
        std::vector<Real> values(size);
        for (Real& value : values) {
            value = static_cast<Real>(2 * random.uniform() - 1);
        }
        return values;
    }
    [[nodiscard]] core::MatrixView<const Real> x() const { return {x_.data(), rows, inputs}; }

    Network<Real> network_;
    Cost<Real> cost_;
    std::vector<Real> parameters_;
    std::vector<Real> x_;
    std::vector<std::uint8_t> labels_;
};

TEST(Gradients, AgreeWithCentralDifferences) {
    constexpr double h = 1e-6;
    for (const Case& c : make_cases()) {
        Problem<double> problem(c);
        const std::vector<double> gradient = problem.gradient();
        double largest = 0;
        for (const Tensor& tensor : problem.layout().tensors()) {
            for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
                double& parameter = problem.parameters()[i];
                const double before = parameter;
                parameter = before + h;
                const double up = problem.cost();
                parameter = before - h;
                const double down = problem.cost();
                parameter = before;
                ASSERT_NEAR(gradient[i], (up - down) / (2 * h), 1e-7)
                    << c.layers << ", " << c.cost << ": " << tensor.name << " element " << i - tensor.offset;
                largest = std::max(largest, std::abs(gradient[i]));
            }
        }
        EXPECT_GT(largest, 0.1) << c.layers << ": nothing was tested";
    }
}

TEST(Gradients, InFloatAgreeWithThoseInDouble) {
    for (const Case& c : make_cases()) {
        Problem<float> single(c);
        Problem<double> exact(c);
        const std::vector<float> found = single.gradient();
        const std::vector<double> expected = exact.gradient();
        EXPECT_NEAR(single.cost(), exact.cost(), 1e-5 * exact.cost());
        for (const Tensor& tensor : exact.layout().tensors()) {
            const auto exact_part = tensor.in(std::span(expected));
            const double scale =
                std::abs(*std::ranges::max_element(exact_part, {}, [](double value) { return std::abs(value); }));
            for (std::size_t i = 0; i < tensor.size; ++i) {
                ASSERT_NEAR(static_cast<double>(found[tensor.offset + i]), exact_part[i], 2e-6 * std::max(1.0, scale))
                    << c.layers << ", " << c.cost << ": " << tensor.name << " element " << i;
            }
        }
    }
}

TEST(Gradients, AreSumsOverShards) {
    const Case c{"dense 7 tanh, dense 4 sigmoid", "quadratic"};
    Network<double> network(c.layers, {inputs});
    network.reserve(rows);
    const std::size_t arena = network.layout().arena_size();
    Problem<double> whole(c);
    const std::vector<double> expected = whole.gradient();
    // Four separate arenas instead of one: shard by shard.
    std::vector<double> parts(4 * arena);
    std::vector<core::Range> leaves;
    std::vector<std::span<double>> arenas;
    for (std::size_t s = 0; s < 4; ++s) {
        leaves.push_back({static_cast<std::int64_t>(s), static_cast<std::int64_t>(s) + 1});
        arenas.push_back(std::span(parts).subspan(s * arena, arena));
    }
    ShardGradients<double> sums(leaves, arenas, 1);
    core::RandomStream random(2, core::Purpose::initialisation, 0, 2);
    std::vector<double> x(rows * inputs);
    for (double& value : x) {
        value = 2 * random.uniform() - 1;
    }
    std::vector<std::uint8_t> labels;
    for (std::size_t n = 0; n < rows; ++n) {
        labels.push_back(static_cast<std::uint8_t>(n % classes));
    }
    const core::MatrixView<const double> view{x.data(), rows, inputs};
    const auto outputs = network.forward(whole.parameters(), view);
    (void)find_cost<double>(c.cost)(outputs, labels, network.output_gradient(rows));
    network.backward(whole.parameters(), shards, view, sums);
    for (const Tensor& tensor : network.layout().tensors()) {
        for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
            EXPECT_EQ(parts[arena + i], 0.0) << "an empty shard";
            EXPECT_EQ((parts[i] + parts[arena + i]) + (parts[2 * arena + i] + parts[3 * arena + i]), expected[i]);
        }
    }
}

} // namespace
} // namespace dtrain::nn
