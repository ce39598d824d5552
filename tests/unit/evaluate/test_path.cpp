#include "dtrain/evaluate/path.hpp"
#include "dtrain/model/saved_network.hpp"

#include "support/errors.hpp"
#include "support/products.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::evaluate {
namespace {

using Strings = std::vector<std::string>;
using Steps = std::vector<std::int64_t>;

constexpr std::string_view layers = "dense 3 relu, dense 2";
constexpr std::uint64_t seed = 5;

class PathTest : public ::testing::Test {
  protected:
    /// Writes a checkpoint of this run whose parameters are all `step`. `as` is the step in the file name.
    void write(std::int64_t step, const Strings& overrides = {}, const std::string& dataset = "digits",
               std::int64_t as = -1) const {
        Strings words{"--model.layers=" + std::string(layers), "--model.seed=" + std::to_string(seed)};
        words.insert(words.end(), overrides.begin(), overrides.end());
        const config::Config config = config::parse("", "x.ini", words);
        io::CheckpointInfo info;
        info.step = step;
        info.config = config.resolved();
        info.dataset = dataset;
        info.sample_shape = {4};
        info.record.step_cost.resize(static_cast<std::size_t>(step));
        info.record.step_accuracy.resize(static_cast<std::size_t>(step));
        const nn::Network<float> network(config.model.layers, {4}, support::products());
        const core::Buffer<float> parameters(network.layout().arena_size());
        std::ranges::fill(parameters.values(), static_cast<float>(step));
        const auto bytes = io::encode_checkpoint(info, model::saved_tensors(network.layout(), parameters.values()));
        support::write_file(checkpoints_.file(as < 0 ? step : as),
                            {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }

    /// The path to the checkpoint of `step`. Its points must hold the values that `write` wrote.
    [[nodiscard]] Steps path_to(std::int64_t step) {
        warnings_.clear();
        const std::filesystem::path file = checkpoints_.file(step);
        const std::vector<PathPoint> path = read_path(file, io::Checkpoint(file), network_,
                                                      [&](std::string_view text) { warnings_.emplace_back(text); });
        Steps steps;
        for (const PathPoint& point : path) {
            steps.push_back(point.step);
            for (const nn::Tensor& tensor : network_.layout().tensors()) {
                if (point.step > 0) {
                    const std::span<float> values = tensor.in(point.parameters.values());
                    EXPECT_EQ(std::ranges::count(values, static_cast<float>(point.step)), std::ssize(values));
                }
            }
        }
        return steps;
    }

    support::TemporaryFolder folder_;
    io::CheckpointFolder checkpoints_{folder_.path()};
    nn::Network<float> network_{layers, {4}, support::products()};
    Strings warnings_;
};

TEST_F(PathTest, LeadsFromTheInitialNetworkToTheCheckpoint) {
    for (const std::int64_t step : {0, 8, 9, 10, 11}) {
        write(step);
    }
    EXPECT_EQ(path_to(10), (Steps{0, 8, 9, 10})) << "the checkpoint of step 0 is the initial network";
    EXPECT_EQ(warnings_, Strings());

    const std::filesystem::path file = checkpoints_.file(10);
    const auto path = read_path(file, io::Checkpoint(file), network_, [](std::string_view) {});
    std::vector<float> initial(network_.layout().arena_size());
    network_.initialise(initial, seed);
    EXPECT_TRUE(std::ranges::equal(path.front().parameters.values(), initial));
}

TEST_F(PathTest, OfACheckpointBeforeTheFirstStepHasOnePoint) {
    write(0);
    write(1);
    EXPECT_EQ(path_to(0), Steps{0});
}

TEST_F(PathTest, SkipsCheckpointsThatAreDamagedOrOfAnotherRun) {
    write(1);
    write(2);
    std::filesystem::resize_file(checkpoints_.file(2), std::filesystem::file_size(checkpoints_.file(2)) - 1);
    write(3, {"--model.seed=6"});
    write(4, {"--model.layers=dense 4 relu, dense 2"});
    write(5, {}, "letters");
    write(6, {}, "digits", 7); // under the name of another step
    write(8, {"--training.learning_rate=0.5", "--parallel.logical_shards=3"});
    write(9);
    EXPECT_EQ(path_to(9), (Steps{0, 1, 8, 9}));
    ASSERT_EQ(warnings_.size(), 5U);
    const std::vector<std::int64_t> left_out{2, 3, 4, 5, 7};
    for (std::size_t i = 0; i < left_out.size(); ++i) {
        EXPECT_TRUE(warnings_[i].starts_with(checkpoints_.file(left_out[i]).string())) << warnings_[i];
        EXPECT_TRUE(warnings_[i].ends_with("; the path leaves it out")) << warnings_[i];
        EXPECT_EQ(warnings_[i].find("belongs to another run") != std::string::npos, left_out[i] != 2) << warnings_[i];
    }
}

TEST_F(PathTest, OfManyCheckpointsHasAHundredEvenlySpacedOnes) {
    for (std::int64_t step = 1; step <= 251; ++step) {
        write(step);
    }
    const Steps steps = path_to(251);
    ASSERT_EQ(steps.size(), 102U);
    EXPECT_EQ((Steps{steps.begin(), steps.begin() + 6}), (Steps{0, 1, 3, 6, 8, 11}));
    for (std::size_t i = 2; i + 1 < steps.size(); ++i) {
        const std::int64_t gap = steps[i] - steps[i - 1];
        EXPECT_TRUE(gap == 2 || gap == 3) << gap << " before " << steps[i];
    }
    EXPECT_EQ(steps.back(), 251);
    EXPECT_GE(steps[100], 248);
}

TEST_F(PathTest, RefusesACheckpointOfAnotherNetwork) {
    write(3, {"--model.layers=dense 4 relu, dense 2"});
    const auto error = support::error_of([&] { (void)path_to(3); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_checkpoint);
}

} // namespace
} // namespace dtrain::evaluate
