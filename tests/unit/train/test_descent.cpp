#include "dtrain/core/random.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/train/exact_descent.hpp"
#include "dtrain/train/local_descent.hpp"

#include "support/lone_reducer.hpp"
#include "support/products.hpp"
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dtrain::train {
namespace {

constexpr std::int64_t shards = 3;
constexpr std::size_t inputs = 7;

/// A rank that owns all shards, with 14 samples each in every step, and its descent.
class DescentTest : public ::testing::Test {
  protected:
    DescentTest() {
        split_.sample_shape = {inputs};
        split_.sample_size = inputs;
        split_.element = data::Element::float32;
        split_.local = {0, max_samples_};
        split_.total = max_samples_;
        split_.elements = core::Buffer<std::byte>(max_samples_ * inputs * sizeof(float));
        split_.labels = core::Buffer<std::uint8_t>(max_samples_);
        core::RandomStream random(3, core::Purpose::direction, 0, 0);
        for (std::size_t i = 0; i < max_samples_ * inputs; ++i) {
            features()[i] = static_cast<float>(random.uniform());
        }
        for (std::uint8_t& label : split_.labels.values()) {
            label = static_cast<std::uint8_t>(random.below(4));
        }
    }

    [[nodiscard]] float* features() const { return reinterpret_cast<float*>(split_.elements.data()); }

    /// Prepares a training of `steps_per_epoch` steps with rounds of `sync_every`.
    void prepare(std::int64_t steps_per_epoch, std::int64_t sync_every, const std::string& optimizer,
                 std::size_t max_rows = rows_) {
        config_ = config::parse("", "test.ini",
                                {"--parallel.sync_every=" + std::to_string(sync_every),
                                 "--parallel.logical_shards=" + std::to_string(shards)});
        network_ = std::make_unique<nn::Network<float>>("dense 5 tanh, dropout 0.2, dense 4", nn::Shape{inputs},
                                                        support::products());
        network_->reserve(nn::Extent::of(std::min(max_rows, rows_), static_cast<std::size_t>(shards)));
        optimizer_ = optim::make_optimizer(optimizer, {0.9, 0});
        const auto batch = static_cast<std::int64_t>(rows_);
        sampler_ = std::make_unique<data::Sampler>(batch * steps_per_epoch, shards, batch, 1, core::Range{0, shards});
        sampler_->start_epoch(0);
        loader_ = std::make_unique<data::BatchLoader>(split_, static_cast<std::size_t>(sampler_->max_local_rows()),
                                                      max_rows, static_cast<std::size_t>(shards));
        const ExchangeSizes sizes = exchange_sizes(config_, network_->layout(), *optimizer_, *sampler_);
        reducer_ = std::make_unique<support::LoneReducer>(sizes.parameters, sizes.states, shards, 32);
        descent_ = make_descent(config_, {support::products(), *network_, max_rows, *loader_,
                                          nn::find_cost<float>("cross_entropy"), *optimizer_, schedule_, *sampler_,
                                          *reducer_, timer_, static_cast<std::size_t>(shards)});
        network_->initialise(descent_->arenas().parameters, 1);
    }

    void descend(std::int64_t step, const Notice& notice = {}) {
        const data::Batch batch = loader_->select(*sampler_, step);
        descent_->descend(step, batch, {1, 0, 0, batch.samples}, notice);
    }

    [[nodiscard]] std::vector<float> parameters() const {
        const std::span<const float> all = descent_->arenas().parameters;
        return {all.begin(), all.end()};
    }

    static constexpr std::size_t rows_ = 42;
    static constexpr std::size_t max_samples_ = 5 * rows_;
    data::Split split_;
    config::Config config_;
    optim::Schedule schedule_{"constant", {0.5, 1, 1, 0, 1, 1}};
    core::PhaseTimer timer_;
    std::unique_ptr<nn::Network<float>> network_;
    std::unique_ptr<optim::Optimizer> optimizer_;
    std::unique_ptr<data::Sampler> sampler_;
    std::unique_ptr<data::BatchLoader> loader_;
    std::unique_ptr<support::LoneReducer> reducer_;
    std::unique_ptr<Descent> descent_;
};

// Compared with the gradient of the complete batch in double, without shards, trees and slices.
TEST_F(DescentTest, ExactDescentFollowsTheGradientOfTheBatch) {
    prepare(1, 1, "sgd");
    nn::Network<double> reference("dense 5 tanh, dropout 0.2, dense 4", {inputs}, support::products());
    reference.reserve(nn::Extent::of(rows_, 1));
    const std::size_t size = reference.layout().arena_size();
    core::Buffer<double> expected(size), gradient(size), x(rows_ * inputs);
    std::ranges::copy(parameters(), expected.data());
    const data::Batch batch = loader_->select(*sampler_, 0);
    std::ranges::copy(loader_->fetch(batch, 0, rows_).values(), x.data());
    nn::ShardGradients<double> gradients({{0, 1}}, {gradient.values()}, reference.max_added_up());
    const std::array<std::size_t, 2> offsets{0, rows_};
    const auto x_view = x.matrix(rows_, inputs);
    const nn::Draw draw{1, 0, 0, batch.samples};
    const auto outputs = reference.forward(expected.values(), {offsets, &draw}, x_view);
    const double cost =
        nn::find_cost<double>("cross_entropy")(outputs, batch.labels, reference.output_gradient(rows_), 0);
    reference.backward(expected.values(), offsets, x_view, gradients);

    descend(0);
    ASSERT_EQ(descent_->scores().size(), 1U);
    EXPECT_NEAR(descent_->scores()[0].cost, cost / static_cast<double>(rows_), 1e-6);
    const std::vector<float> found = parameters();
    for (std::size_t i = 0; i < size; ++i) {
        EXPECT_NEAR(found[i], expected.data()[i] - 0.5 / static_cast<double>(rows_) * gradient.data()[i], 1e-6) << i;
    }
}

// The mean of steps from the same parameters is one step with the mean gradient.
TEST_F(DescentTest, OneLocalStepIsOneExactStep) {
    prepare(1, 1, "sgd");
    descend(0);
    const std::vector<float> exact = parameters();
    const model::Score score = descent_->scores()[0];
    prepare(1, 5, "sgd"); // the end of an epoch ends a round
    descend(0);
    const std::vector<float> local = parameters();
    EXPECT_TRUE(descent_->is_synchronised());
    ASSERT_EQ(local.size(), exact.size());
    for (std::size_t i = 0; i < exact.size(); ++i) {
        EXPECT_NEAR(local[i], exact[i], 1e-6) << i;
    }
    ASSERT_EQ(descent_->scores().size(), 1U);
    EXPECT_NEAR(descent_->scores()[0].cost, score.cost, 1e-6);
    EXPECT_EQ(descent_->scores()[0].accuracy, score.accuracy);
}

TEST_F(DescentTest, LocalShardsAreSynchronisedAtTheEndOfARound) {
    prepare(5, 2, "momentum");
    const std::vector<float> initial = parameters();
    for (std::int64_t step = 0; step < 5; ++step) {
        descend(step, {step == 1, step == 3});
        const bool ends_round = step != 0 && step != 2; // after two steps, and at the end of the epoch
        EXPECT_EQ(descent_->is_synchronised(), ends_round) << step;
        EXPECT_EQ(descent_->scores().size(), !ends_round ? 0U : step == 4 ? 1U : 2U) << step;
        EXPECT_EQ(reducer_->combined, (step + 1) / 2 + (step == 4 ? 1 : 0)) << step;
        if (step == 0) {
            EXPECT_EQ(parameters(), initial); // the common parameters are those of the last round
        }
        if (step == 1) {
            EXPECT_NE(parameters(), initial);
            EXPECT_EQ(descent_->totals().stop_requests, 1);
        }
        if (step == 3) {
            EXPECT_EQ(descent_->totals().stop_requests, 0);
            EXPECT_EQ(descent_->totals().output_failures, 1);
        }
    }
    EXPECT_EQ(reducer_->published, 3);
}

TEST_F(DescentTest, MicroBatchesChangeNoBit) {
    for (const std::int64_t sync_every : {1, 3}) {
        std::vector<float> expected;
        std::vector<double> costs;
        for (const std::size_t max_rows : {42U, 8U, 14U, 27U}) {
            prepare(5, sync_every, "momentum", max_rows);
            std::vector<double> found;
            for (std::int64_t step = 0; step < 5; ++step) {
                descend(step);
                for (const model::Score& score : descent_->scores()) {
                    found.insert(found.end(), {score.cost, score.accuracy});
                }
            }
            if (expected.empty()) {
                expected = parameters();
                costs = found;
            }
            EXPECT_EQ(parameters(), expected) << max_rows << " rows at once, averaged every " << sync_every;
            EXPECT_EQ(found, costs);
        }
    }
}

TEST_F(DescentTest, ThrowsBeforeAnyUpdateIfTheCostIsNotFinite) {
    for (const std::int64_t sync_every : {1, 2}) {
        prepare(1, sync_every, "sgd");
        features()[0] = std::numeric_limits<float>::quiet_NaN();
        const std::vector<float> before = parameters();
        EXPECT_THROW(descend(0), mpi::AgreedError);
        EXPECT_EQ(parameters(), before);
        EXPECT_EQ(reducer_->published, 0);
    }
}

} // namespace
} // namespace dtrain::train
