#include "dtrain/core/bfloat16.hpp"
#include "dtrain/core/random.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/nn/cost.hpp"
#include "dtrain/nn/network.hpp"

#include "support/products.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace dtrain::nn {
namespace {

constexpr std::size_t classes = 4;
using Offsets = std::vector<std::size_t>;
const Offsets few_rows{0, 3, 3, 4, 14}; // the second shard has no samples, the last has more than a group

struct Case {
    std::string layers;
    std::string cost;
    Shape input{6};
};

/// Every activation as the only dense layer, as a hidden one, and in networks of three layers, with both costs. Every
/// other kind of layer as the first, in the middle, and as the last, with every option.
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
    for (const auto& [layers, input] :
         {std::pair{"conv 3x3x3 relu, dense 4", Shape{5, 6}},
          {"conv 4x1x1 tanh, conv 7x3x3 pad 2 sigmoid, dense 4", {2, 4, 3}},
          {"conv 2x2x2 pad 1 stride 2 tanh, conv 6x5x5 pad 4 stride 3 tanh, dense 4", {3, 5, 6}},
          {"conv 13x3x3 tanh, conv 4x4x4 linear", {2, 6, 6}},
          {"conv 5x2x2 pad 1 tanh, conv 6x5x5 pad 4 stride 3 tanh, dense 4", {3, 5, 6}}, // 3 phases in each direction
          {"conv 35x2x2 tanh, conv 19x3x3 pad 1 stride 2 tanh, conv 4x1x1 stride 3", {2, 5, 6}},
          {"conv 3x6x6 pad 3 sigmoid, maxpool 2, dense 4", {7, 6}},
          {"maxpool 2, conv 3x2x2 tanh, dense 4", {2, 7, 6}},
          {"avgpool 3, dense 5 tanh, dense 4", {7, 6}},
          {"conv 5x3x3 tanh, avgpool 2, conv 4x1x1 tanh, maxpool 2", {2, 6, 6}},
          {"dense 7 tanh, dropout 0.5, dense 4", {6}},
          {"dropout 0.25, dense 4", {6}},
          {"dense 7, batchnorm tanh, dense 4", {6}},
          {"batchnorm sigmoid, dense 5, batchnorm relu, dense 4, batchnorm", {6}},
          {"conv 3x3x3, batchnorm tanh, maxpool 2, conv 5x1x1, batchnorm, dense 4", {5, 6}},
          {"batchnorm, conv 4x2x2 stride 2 tanh, dense 4", {3, 5, 4}},
          {"conv 3x3x3 tanh, dropout 0.5, dense 4", {5, 6}},
          {"lstm 5, dense 4", {6, 3}},
          {"lstm 9, dense 4", {3, 30}},
          {"dense 40 tanh, dense 33 sigmoid, dense 4", {37}},
          {"lstm 17, dense 4", {1, 3}},
          {"lstm 4", {4, 2}}}) {
        cases.push_back({layers, "quadratic", input});
    }
    return cases;
}

/// Cost and gradient of a network in arithmetic of type Real. Parameters and samples are fixed and are the same in
/// float and double. Biases are random too, so no unit lies on the kink of ReLU.
template <class Real>
class Problem {
  public:
    explicit Problem(const Case& c, const Offsets& shards = few_rows, kernels::Products& products = support::products())
        : products_(products), network_(c.layers, c.input, products), cost_(find_cost<Real>(c.cost)), shards_(shards) {
        network_.reserve(Extent::of(rows(), shards_.size() - 1));
        parameters_ = draw(network_.layout().arena_size(), 1);
        x_ = draw(rows() * network_.inputs(), 2);
        for (std::size_t n = 0; n < rows(); ++n) {
            labels_.push_back(static_cast<std::uint8_t>(n % classes));
            samples_.push_back(static_cast<std::uint32_t>(n));
        }
        drawing_.samples = samples_;
    }

    [[nodiscard]] std::vector<Real>& parameters() { return parameters_; }
    [[nodiscard]] const ParameterLayout& layout() const { return network_.layout(); }

    [[nodiscard]] double cost() {
        return cost_(network_.forward(parameters_, {shards_, &drawing_}, x()), labels_, {}, 0);
    }

    /// One arena for each of `subtrees`, one after the other, from micro-batches of up to `max_rows`.
    [[nodiscard]] std::vector<Real> gradient(const std::vector<core::Range>& subtrees = {{0, 4}},
                                             std::size_t max_rows = 1000, bool compressed = false) {
        // The previous contents of an arena must not matter.
        const std::size_t size = network_.layout().arena_size();
        std::vector<Real> arenas(subtrees.size() * size, std::numeric_limits<Real>::quiet_NaN());
        std::vector<std::span<Real>> views;
        for (std::size_t i = 0; i < subtrees.size(); ++i) {
            views.push_back(std::span(arenas).subspan(i * size, size));
        }
        ShardGradients<Real> sums(
            subtrees, views,
            std::max(network_.max_added_up(), compressed ? ShardGradients<Real>::max_portion(network_.layout()) : 0),
            max_rows < rows(), compressed ? size : 0);
        const std::size_t unit =
            network_.mixes_samples() ? MicroBatches::whole_shards : std::max(group_rows, products_.cut_unit());
        if (network_.mixes_samples()) { // a micro-batch has room for any shard
            for (std::size_t s = 0; s + 1 < shards_.size(); ++s) {
                max_rows = std::max(max_rows, shards_[s + 1] - shards_[s]);
            }
        }
        MicroBatches(max_rows, shards_.size() - 1, unit).for_each(shards_, [&](const MicroBatch& part) {
            Draw drawing = drawing_;
            drawing.samples = drawing.samples.subspan(part.first_row, part.size());
            const core::MatrixView<const Real> x_part = x().block(part.first_row, part.size());
            const auto outputs = network_.forward(parameters_, {part.rows, &drawing}, x_part);
            (void)cost_(outputs, std::span(labels_).subspan(part.first_row, part.size()),
                        network_.output_gradient(part.size()), 0);
            sums.begin(part);
            network_.backward(parameters_, part.rows, x_part, sums);
        });
        return arenas;
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
    [[nodiscard]] core::MatrixView<const Real> x() const { return {x_.data(), rows(), network_.inputs()}; }
    [[nodiscard]] std::size_t rows() const { return shards_.back(); }

    kernels::Products& products_;
    Network<Real> network_;
    Cost<Real> cost_;
    Offsets shards_;
    std::vector<Real> parameters_;
    std::vector<Real> x_;
    std::vector<std::uint8_t> labels_;
    std::vector<std::uint32_t> samples_;
    Draw drawing_;
};

TEST(Gradients, AgreeWithCentralDifferences) {
    constexpr double h = 1e-6;
    for (const Case& c : make_cases()) {
        Problem<double> problem(c);
        const std::vector<double> gradient = problem.gradient();
        const double rounding = 0x1p-50 / h * problem.cost(); // some ulps of a cost
        double largest = 0;
        for (const Tensor& tensor : problem.layout().tensors()) {
            if (tensor.role == Role::statistic) {
                continue;
            }
            for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
                double& parameter = problem.parameters()[i];
                const double before = parameter;
                parameter = before + h;
                const double up = problem.cost();
                parameter = before - h;
                const double down = problem.cost();
                parameter = before;
                ASSERT_NEAR(gradient[i], (up - down) / (2 * h), 1e-7 + rounding)
                    << c.layers << ", " << c.cost << ": " << tensor.name << " element " << i - tensor.offset;
                largest = std::max(largest, std::abs(gradient[i]));
            }
        }
        EXPECT_GT(largest, 0.1) << c.layers << ": nothing was tested";
    }
}

/// Whether the terms of a gradient add up to zero in theory, as those of a bias before a batchnorm do.
bool is_zero_before_batchnorm(std::span<const double> gradient) {
    return std::ranges::all_of(gradient, [](double value) { return std::abs(value) < 1e-12; });
}

TEST(Gradients, InFloatAgreeWithDouble) {
    for (const Case& c : make_cases()) {
        Problem<float> single(c);
        Problem<double> exact(c);
        // The shard of one sample has no variance, so errors there are multiplied with 1 / √ε = 316.
        const double tolerance = c.layers.find("batchnorm") == std::string::npos ? 2e-6 : 2e-5;
        const std::vector<float> found = single.gradient();
        const std::vector<double> expected = exact.gradient();
        EXPECT_NEAR(single.cost(), exact.cost(), 1e-5 * exact.cost());
        for (const Tensor& tensor : exact.layout().tensors()) {
            const auto exact_part = tensor.in(std::span(expected));
            const double scale =
                std::abs(*std::ranges::max_element(exact_part, {}, [](double value) { return std::abs(value); }));
            for (std::size_t i = 0; i < tensor.size; ++i) {
                ASSERT_NEAR(static_cast<double>(found[tensor.offset + i]), exact_part[i],
                            is_zero_before_batchnorm(exact_part) ? 1e-4 : tolerance * std::max(1.0, scale))
                    << c.layers << ", " << c.cost << ": " << tensor.name << " element " << i;
            }
        }
    }
}

/// The products round each factor by up to 2^-9 of its size. This is about what is left of the gradient's first digits,
/// if a network has layers that round: more than float sums leave.
TEST(Gradients, WithBfloat16ProductsAgreeWithDouble) {
    std::set<std::string> rounding_kinds; // of the first layer
    for (const Case& c : make_cases()) {
        Problem<float> rounding(c, few_rows, support::bfloat16_products());
        Problem<double> exact(c);
        const std::vector<float> found = rounding.gradient();
        const std::vector<double> expected = exact.gradient();
        for (const Tensor& tensor : exact.layout().tensors()) {
            double difference = 0;
            double size = 0;
            for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
                difference += std::pow(static_cast<double>(found[i]) - expected[i], 2);
                size += std::pow(expected[i], 2);
            }
            if (is_zero_before_batchnorm(tensor.in(std::span(expected)))) {
                EXPECT_LT(std::sqrt(difference), 1e-4);
                continue;
            }
            EXPECT_LE(std::sqrt(difference), 0.02 * std::sqrt(size))
                << c.layers << ", " << c.cost << ": " << tensor.name;
            if (std::sqrt(difference) > 0x1p-12 * std::sqrt(size) && !c.layers.starts_with("batchnorm")) {
                rounding_kinds.insert(c.layers.substr(0, c.layers.find(' ')));
            }
        }
    }
    EXPECT_EQ(rounding_kinds, (std::set<std::string>{"conv", "dense", "lstm"}));
}

TEST(Gradients, AreSumsOverShards) {
    for (const Case& c : {Case{"dense 7 tanh, dense 4 sigmoid", "quadratic"},
                          Case{"conv 3x3x3 pad 1 tanh, maxpool 2, dense 4", "quadratic", {6, 7}},
                          Case{"lstm 5, dense 4", "quadratic", {6, 7}}}) {
        Problem<double> problem(c);
        const std::size_t arena = problem.layout().arena_size();
        const std::vector<double> expected = problem.gradient();
        // Four separate arenas instead of one: shard by shard.
        const std::vector<double> parts = problem.gradient({{0, 1}, {1, 2}, {2, 3}, {3, 4}});
        for (const Tensor& tensor : problem.layout().tensors()) {
            for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
                EXPECT_EQ(parts[arena + i], 0.0) << "an empty shard has gradient zero";
                EXPECT_EQ((parts[i] + parts[arena + i]) + (parts[2 * arena + i] + parts[3 * arena + i]), expected[i]);
            }
        }
    }
}

class GradientsInMicroBatches : public ::testing::TestWithParam<kernels::Products* (*)()> {};

TEST_P(GradientsInMicroBatches, HaveTheSameBits) {
    const Offsets many_rows{0, 30, 30, 47, 48, 118};
    for (const Case& c : make_cases()) {
        Problem<float> problem(c, many_rows, *GetParam()());
        for (const std::vector<core::Range>& subtrees :
             {std::vector<core::Range>{{0, 5}}, {{0, 4}, {4, 5}}, {{0, 1}, {1, 2}, {2, 4}, {4, 5}}}) {
            const std::vector<float> expected = problem.gradient(subtrees);
            for (const std::size_t max_rows : {8U, 16U, 21U, 47U, 64U, 117U}) {
                const std::vector<float> found = problem.gradient(subtrees, max_rows);
                for (const Tensor& tensor : problem.layout().tensors()) {
                    for (std::size_t arena = 0; arena < found.size(); arena += problem.layout().arena_size()) {
                        const auto part = [&](const std::vector<float>& all) {
                            return std::as_bytes(tensor.in(std::span(all).subspan(arena)));
                        };
                        ASSERT_TRUE(std::ranges::equal(part(found), part(expected)))
                            << c.layers << ", " << c.cost << ": " << tensor.name << " in parts of " << max_rows;
                    }
                }
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Exact, GradientsInMicroBatches, ::testing::Values([] { return &support::products(); }));
INSTANTIATE_TEST_SUITE_P(Bfloat16, GradientsInMicroBatches,
                         ::testing::Values([] { return &support::bfloat16_products(); }));

/// The sum of some shards' gradients along the tree, every node rounded to bfloat16. Arenas follow each other in
/// `leaves`.
std::vector<float> compressed_sum(std::span<const float> leaves, std::size_t arena, core::Range node) {
    std::vector<float> sum;
    if (node.size() == 1) {
        const auto leaf = leaves.subspan(static_cast<std::size_t>(node.begin) * arena, arena);
        sum.assign(leaf.begin(), leaf.end());
    } else {
        const std::int64_t middle = core::split_node(node);
        sum = compressed_sum(leaves, arena, {node.begin, middle});
        std::ranges::transform(sum, compressed_sum(leaves, arena, {middle, node.end}), sum.begin(), std::plus<>());
    }
    for (float& value : sum) {
        value = core::from_bfloat16(core::to_bfloat16(value));
    }
    return sum;
}

// A leaf is the gradient of a shard without compression, also if micro-batches cut the shard. The last case has
// products of several portions.
TEST(Gradients, AreRoundedAtEveryNodeOfTheTreeIfCompressed) {
    const Offsets many_rows{0, 30, 30, 47, 48, 118};
    std::vector<Case> cases = make_cases();
    cases.push_back({"dense 130 tanh, dense 4", "quadratic", {40, 42}});
    for (const Case& c : cases) {
        Problem<float> problem(c, many_rows);
        const std::size_t arena = problem.layout().arena_size();
        const std::vector<float> leaves = problem.gradient({{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}});
        for (const std::vector<core::Range>& subtrees :
             {std::vector<core::Range>{{0, 5}}, {{0, 4}, {4, 5}}, {{0, 1}, {1, 2}, {2, 4}, {4, 5}}}) {
            for (const std::size_t max_rows : {8U, 21U, 64U, 1000U}) {
                const std::vector<float> found = problem.gradient(subtrees, max_rows, true);
                for (std::size_t i = 0; i < subtrees.size(); ++i) {
                    const std::vector<float> expected = compressed_sum(leaves, arena, subtrees[i]);
                    for (const Tensor& tensor : problem.layout().tensors()) {
                        ASSERT_TRUE(
                            std::ranges::equal(std::as_bytes(tensor.in(std::span(found).subspan(i * arena, arena))),
                                               std::as_bytes(tensor.in(std::span(expected)))))
                            << c.layers << ": " << tensor.name << " in parts of " << max_rows;
                    }
                }
            }
        }
    }
}

} // namespace
} // namespace dtrain::nn
