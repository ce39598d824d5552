#include "dtrain/core/random.hpp"
#include "dtrain/train/slice_update.hpp"

#include "support/lone_reducer.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace dtrain::train {
namespace {

/// A weight, a bias followed by a gap, and another weight. Statistics are between them and at the end.
nn::ParameterLayout make_layout(bool with_statistics = false) {
    nn::ParameterLayout layout;
    layout.add("01_dense", "weight", {6, 40});
    layout.add("01_dense", "bias", {6});
    if (with_statistics) {
        layout.add("02_batchnorm", "running_mean", {6}, nn::Role::statistic);
    }
    layout.add("02_dense", "weight", {3, 50});
    if (with_statistics) {
        layout.add("03_batchnorm", "running_var", {37}, nn::Role::statistic);
    }
    return layout;
}

/// One step on random parameters and gradients.
class SliceUpdateTest : public ::testing::Test {
  protected:
    std::vector<float> updated(const std::string& optimizer_name, std::size_t block, double clip_norm = 0) {
        optimizer_ = optim::make_optimizer(optimizer_name, {0.9, 0.01});
        const std::size_t states = optimizer_->state_names().size();
        support::LoneReducer reducer(layout_.arena_size(), states, 1, block);
        core::RandomStream random(7, core::Purpose::direction, 0, 0);
        for (const nn::Role role : {nn::Role::parameter, nn::Role::statistic}) { // statistics change no other value
            for (const nn::Tensor& tensor : layout_.tensors()) {
                if (tensor.role != role) {
                    continue;
                }
                for (float& value : tensor.in(reducer.parameters())) {
                    value = static_cast<float>(random.uniform()) - 0.5F;
                }
                for (float& value : tensor.in(reducer.gradients(0))) {
                    value = static_cast<float>(random.uniform()) - 0.5F;
                }
            }
        }
        before_.assign(reducer.parameters().begin(), reducer.parameters().end());
        gradient_.assign(reducer.gradients(0).begin(), reducer.gradients(0).end());
        std::vector<std::span<float>> arenas;
        for (std::size_t i = 0; i < states; ++i) {
            arenas.push_back(reducer.state(i));
        }
        SliceUpdate update(layout_, *optimizer_, clip_norm);
        core::PhaseTimer timer;
        for (int step = 0; step < steps; ++step) {
            EXPECT_TRUE(update.update_slice({reducer.parameters(), arenas}, reducer, {step, 0.1, 0.25}, timer));
        }
        return {reducer.parameters().begin(), reducer.parameters().end()};
    }

    /// The same steps as in the last call of updated(), on the whole arena and without a reducer.
    std::vector<float> updated_at_once(double clip_norm) {
        std::vector<std::vector<float>> states(optimizer_->state_names().size(), std::vector<float>(before_.size()));
        const std::vector<std::span<float>> arenas(states.begin(), states.end());
        std::vector<float> parameters = before_;
        const std::span<const float> gradient = std::span(gradient_).first(before_.size()); // without the tail
        SliceUpdate update(layout_, *optimizer_, clip_norm);
        for (int step = 0; step < steps; ++step) {
            EXPECT_TRUE(update.update({parameters, arenas}, gradient, {step, 0.1, 0.25}));
        }
        return parameters;
    }

    static constexpr int steps = 3;

    nn::ParameterLayout layout_ = make_layout();
    std::unique_ptr<optim::Optimizer> optimizer_;
    std::vector<float> before_, gradient_;
};

TEST_F(SliceUpdateTest, HasTheSameBitsForAnyBlockSize) {
    for (const std::string& optimizer : optim::optimizer_names()) {
        const std::vector<float> all = updated(optimizer, layout_.arena_size());
        EXPECT_NE(all, before_) << optimizer;
        for (const std::size_t block : {16U, 48U, 240U}) {
            EXPECT_EQ(updated(optimizer, block), all) << optimizer << " in blocks of " << block;
        }
        const std::vector<float> clipped = updated(optimizer, layout_.arena_size(), 0.25);
        EXPECT_NE(clipped, all) << optimizer;
        EXPECT_EQ(updated(optimizer, 48, 0.25), clipped) << optimizer;
    }
}

TEST_F(SliceUpdateTest, LeavesGapsAtZero) {
    for (const std::string& optimizer : optim::optimizer_names()) {
        const std::vector<float> parameters = updated(optimizer, 64);
        for (std::size_t i = layout_[1].offset + layout_[1].size; i < layout_[2].offset; ++i) {
            EXPECT_EQ(parameters[i], 0.0F) << optimizer;
        }
    }
}

// No optimizer, no rate and no clipping applies to them, and their gradients do not count for the norm.
TEST_F(SliceUpdateTest, StatisticsMoveByATenthOfTheMeanAndChangeNoParameter) {
    for (const std::string& optimizer : optim::optimizer_names()) {
        for (const double clip_norm : {0.0, 0.25}) {
            layout_ = make_layout();
            const std::vector<float> without = updated(optimizer, layout_.arena_size(), clip_norm);
            const nn::ParameterLayout plain = layout_;
            layout_ = make_layout(true);
            for (const std::size_t block : {std::size_t{16}, std::size_t{48}, layout_.arena_size()}) {
                const std::vector<float> with = updated(optimizer, block, clip_norm);
                for (const nn::Tensor& tensor : plain.tensors()) {
                    const auto same = std::ranges::find(layout_.tensors(), tensor.name, &nn::Tensor::name);
                    EXPECT_TRUE(std::ranges::equal(same->in(std::span(with)), tensor.in(std::span(without))))
                        << optimizer << ", " << clip_norm << ", " << block << ", " << tensor.name;
                }
                for (const nn::Tensor& tensor : layout_.tensors()) {
                    if (tensor.role == nn::Role::parameter) {
                        continue;
                    }
                    for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
                        EXPECT_NEAR(with[i], before_[i] + steps * 0.1F * 0.25F * gradient_[i], 1e-6F)
                            << optimizer << ", " << clip_norm << ", " << block << ", " << tensor.name;
                    }
                }
                if (!optimizer_->needs_norms()) {
                    EXPECT_EQ(updated_at_once(clip_norm), with) << optimizer << ", " << clip_norm;
                }
            }
        }
    }
}

// Only for tensors of two or more dimensions: a bias keeps the rate.
TEST_F(SliceUpdateTest, ScalesTheRateOfWeightsByTheirNorms) {
    (void)updated("lars", 48);
    support::LoneReducer reducer(layout_.arena_size(), 1, 1, 48);
    std::ranges::copy(before_, reducer.parameters().begin());
    std::ranges::copy(gradient_, reducer.gradients(0).begin());
    const std::vector<std::span<float>> states{reducer.state(0)};
    core::PhaseTimer timer;
    SliceUpdate(layout_, *optimizer_).update_slice({reducer.parameters(), states}, reducer, {0, 0.1, 0.25}, timer);
    for (const nn::Tensor& tensor : layout_.tensors()) {
        double weight_square = 0;
        double gradient_square = 0;
        for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
            weight_square += std::pow(before_[i], 2);
            gradient_square += std::pow(0.25 * static_cast<double>(gradient_[i]), 2);
        }
        const double norm = std::sqrt(weight_square);
        const double factor = tensor.shape.size() > 1 ? 0.001 * norm / (std::sqrt(gradient_square) + 0.01 * norm) : 1.0;
        for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
            const double change = 0.1 * factor * (0.25 * static_cast<double>(gradient_[i]) + 0.01 * before_[i]);
            EXPECT_NEAR(static_cast<double>(before_[i]) - change, reducer.parameters()[i], 1e-6) << tensor.name;
        }
    }
}

TEST_F(SliceUpdateTest, DetectsValuesThatAreNotFinite) {
    const auto sgd = optim::make_optimizer("sgd", {});
    SliceUpdate update(layout_, *sgd);
    std::vector<float> parameters(layout_.arena_size());
    std::vector<float> gradient(layout_.arena_size());
    EXPECT_TRUE(update.update({parameters, {}}, gradient, {0, 1, 1}));
    SliceUpdate clipping(layout_, *sgd, 1);
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        gradient[layout_[2].offset] = bad;
        EXPECT_FALSE(update.update({parameters, {}}, gradient, {0, 1, 1}));
        std::ranges::fill(parameters, 0.0F);
        EXPECT_FALSE(clipping.update({parameters, {}}, gradient, {0, 1, 1}));
    }
}

/// Against a computation in double, for gradients shorter and longer than the limit, by many orders of magnitude.
TEST_F(SliceUpdateTest, ClipsTheMeanGradient) {
    const auto sgd = optim::make_optimizer("sgd", {});
    for (const double clip_norm : {1e-6, 0.5, 1e3}) {
        SliceUpdate update(layout_, *sgd, clip_norm);
        for (const double size : {1e-3, 0.02, 1.0, 1e5, 1e9}) {
            std::vector<float> gradient(layout_.arena_size());
            core::RandomStream random(7, core::Purpose::direction, 0, 0);
            double square = 0;
            for (const nn::Tensor& tensor : layout_.tensors()) {
                for (float& value : tensor.in(std::span(gradient))) {
                    value = static_cast<float>(size * clip_norm * (2 * random.uniform() - 1));
                    square += std::pow(0.25 * static_cast<double>(value), 2);
                }
            }
            const double factor = std::min(1.0, clip_norm / std::sqrt(square));
            std::vector<float> parameters(layout_.arena_size());
            EXPECT_TRUE(update.update({parameters, {}}, gradient, {0, 1, 0.25}));
            for (std::size_t i = 0; i < parameters.size(); ++i) {
                const double expected = -factor * 0.25 * static_cast<double>(gradient[i]);
                ASSERT_NEAR(parameters[i], expected, 1e-6 * clip_norm) << clip_norm << ", " << size;
            }
        }
    }
}

} // namespace
} // namespace dtrain::train
