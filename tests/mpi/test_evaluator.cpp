#include "dtrain/data/dataset_loader.hpp"
#include "dtrain/model/evaluator.hpp"
#include "dtrain/model/fingerprint.hpp"
#include "dtrain/mpi/communicator.hpp"

#include "support/errors.hpp"
#include "support/idx_files.hpp"
#include "support/products.hpp"
#include "support/shared_folder.hpp"
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dtrain::model {
namespace {

constexpr std::int64_t shards = 9;
constexpr std::uint32_t samples = 3001; // more than evaluation_rows on each rank

class EvaluatorTest : public ::testing::Test {
  protected:
    [[nodiscard]] Score score(const mpi::Communicator& communicator, std::string_view cost) {
        std::vector<core::Range> shards_of_rank;
        for (int rank = 0; rank < communicator.size(); ++rank) {
            shards_of_rank.push_back(core::partition(shards, communicator.size(), rank));
        }
        const data::Dataset dataset =
            data::DatasetLoader(data::make_source("idx", {folder_.path()}), communicator).load(shards, shards_of_rank);
        nn::Network<float> network("dense 12 tanh, dense 4", {8, 8}, support::products());
        network.reserve(nn::Extent::of(evaluation_rows, 1));
        std::vector<float> parameters(network.layout().arena_size());
        network.initialise(parameters, 3);
        Evaluator evaluator(network, cost, dataset.test);
        return evaluator.score(parameters, shards, shards_of_rank[static_cast<std::size_t>(communicator.rank())],
                               communicator);
    }

    mpi::Communicator world_ = mpi::Communicator::world();
    mpi::Communicator self_ = world_.split(world_.rank(), 0);
    support::SharedFolder folder_{world_};
};

TEST_F(EvaluatorTest, CountsEverySampleOnceAndGivesTheSameBitsOnAnyNumberOfRanks) {
    if (world_.is_root()) {
        support::write_digits(folder_.path(), 20, samples);
    }
    world_.barrier();
    for (const std::string& cost : nn::cost_names()) {
        const Score together = score(world_, cost);
        const Score alone = score(self_, cost);
        EXPECT_EQ(together.cost, alone.cost);
        EXPECT_EQ(together.accuracy, alone.accuracy);

        // The definition, sample by sample in double.
        const support::Digits digits = support::make_digits(samples, 2);
        nn::Network<float> single("dense 12 tanh, dense 4", {8, 8}, support::products());
        std::vector<float> initial(single.layout().arena_size());
        single.initialise(initial, 3);
        nn::Network<double> network("dense 12 tanh, dense 4", {8, 8}, support::products());
        network.reserve(nn::Extent::of(1, 1));
        const std::vector<double> parameters(initial.begin(), initial.end());
        double sum = 0;
        int correct = 0;
        for (std::size_t n = 0; n < samples; ++n) {
            std::vector<double> x(64);
            for (std::size_t i = 0; i < 64; ++i) {
                x[i] = static_cast<std::uint8_t>(digits.pixels[n * 64 + i]) / 255.0;
            }
            const std::vector<std::size_t> one{0, 1};
            const std::vector<std::uint8_t> label{static_cast<std::uint8_t>(digits.labels[n])};
            const auto outputs = network.forward(parameters, {one}, {x.data(), 1, 64});
            sum += nn::find_cost<double>(cost)(outputs, label, {}, 0);
            const std::vector<float> rounded(outputs.row(0).begin(), outputs.row(0).end());
            correct += predicted_class(rounded) == label[0] ? 1 : 0;
        }
        EXPECT_NEAR(together.cost, sum / samples, 1e-6 * sum / samples);
        EXPECT_NEAR(together.accuracy, static_cast<double>(correct) / samples, 1.5 / samples);
    }
}

TEST_F(EvaluatorTest, AcceptsLessThanASamplePerShard) {
    if (world_.is_root()) {
        support::write_digits(folder_.path(), 20, 4);
    }
    world_.barrier();
    const Score together = score(world_, "quadratic");
    EXPECT_TRUE(std::isfinite(together.cost));
    EXPECT_EQ(together.cost, score(self_, "quadratic").cost);
}

TEST_F(EvaluatorTest, ReplicasThatDifferAreNamed) {
    EXPECT_FALSE(support::error_of([&] { require_equal_replicas(77, 5, world_); }));
    if (world_.size() < 3) {
        return; // no majority
    }
    const int odd = world_.size() - 1;
    const auto error =
        support::error_of<mpi::AgreedError>([&] { require_equal_replicas(world_.rank() == odd ? 78 : 77, 5, world_); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::rank_lost);
    EXPECT_NE(std::string(error->what()).find("rank " + std::to_string(odd)), std::string::npos) << error->what();
    EXPECT_NE(std::string(error->what()).find("step 5"), std::string::npos) << error->what();
}

} // namespace
} // namespace dtrain::model
