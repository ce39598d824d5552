#include "dtrain/config/config.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/model/build.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/run/trainer.hpp"

#include "support/allocation_count.hpp"
#include "support/errors.hpp"
#include "support/idx_files.hpp"
#include "support/products.hpp"
#include "support/shared_folder.hpp"
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

/// Whether threads seem to take a million times their CPU time.
std::atomic<bool> threads_seem_slow = false;

} // namespace

/// Replaces the C library's function.
extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
    const auto result = static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
    if (clock == CLOCK_THREAD_CPUTIME_ID && threads_seem_slow) {
        time->tv_sec = 1'000'000 * time->tv_sec + time->tv_nsec / 1000;
    }
    return result;
}

namespace dtrain::run {
namespace {

using support::error_of;

constexpr std::uint32_t train_samples = 53;
constexpr std::uint32_t test_samples = 17;
const nn::Shape sample_shape{8, 8};

/// The contents of the last checkpoint of a run.
struct Outcome {
    io::RunRecord record;
    std::map<std::string, std::vector<float>> tensors; ///< by path, including optimizer state
};

class TrainerTest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (world_.is_root()) {
            support::write_digits(folder_.path(), train_samples, test_samples);
        }
        world_.barrier();
    }

    [[nodiscard]] config::Config configure(const std::string& output,
                                           const std::vector<std::string>& overrides = {}) const {
        std::vector<std::string> all{"--data.directory=" + folder_.path().string(),
                                     "--output.directory=" + (folder_ / output).string(),
                                     "--model.layers=dense 11 sigmoid, dense 4 sigmoid",
                                     "--training.epochs=3",
                                     "--training.batch_size=10",
                                     "--training.learning_rate=1",
                                     "--parallel.logical_shards=9"};
        all.insert(all.end(), overrides.begin(), overrides.end());
        return config::parse("", "test.ini", all);
    }

    /// Collective over `communicator`. Discards what a run prints.
    static core::ExitCode run(const config::Config& config, const mpi::Communicator& communicator) {
        ::testing::internal::CaptureStdout();
        core::ExitCode code{};
        try {
            Trainer trainer(config, communicator);
            code = trainer.run();
        } catch (...) {
            (void)::testing::internal::GetCapturedStdout();
            throw;
        }
        (void)::testing::internal::GetCapturedStdout();
        return code;
    }

    /// The outcome of `run`, on rank 0.
    static Outcome outcome(const config::Config& config) {
        const io::CheckpointFolder checkpoints(config.output.directory / "checkpoints");
        const io::Checkpoint checkpoint(checkpoints.file(checkpoints.steps().front()));
        const auto network = model::build_network(config, sample_shape, support::products());
        const auto states = optim::make_optimizer(config.training.optimizer, {})->state_names();
        Outcome found;
        found.record = checkpoint.info().record;
        for (const nn::Tensor& tensor : network.layout().tensors()) {
            std::vector<std::string> paths{"/model/" + tensor.name};
            for (const std::string& state : states) {
                paths.push_back("/optimizer/" + state + "/" + tensor.name);
            }
            for (const std::string& path : paths) {
                std::vector<float>& values = found.tensors[path];
                values.resize(tensor.size);
                checkpoint.read(std::vector<io::TensorView>{{path, tensor.shape, values}});
            }
        }
        return found;
    }

    static void expect_same_bits(const Outcome& found, const Outcome& expected, const std::string& what) {
        EXPECT_EQ(found.tensors, expected.tensors) << what;
        EXPECT_EQ(found.record.step_cost, expected.record.step_cost) << what;
        EXPECT_EQ(found.record.step_accuracy, expected.record.step_accuracy) << what;
        EXPECT_EQ(found.record.epochs.train_cost, expected.record.epochs.train_cost) << what;
        EXPECT_EQ(found.record.epochs.train_accuracy, expected.record.epochs.train_accuracy) << what;
        EXPECT_EQ(found.record.epochs.test_cost, expected.record.epochs.test_cost) << what;
        EXPECT_EQ(found.record.epochs.test_accuracy, expected.record.epochs.test_accuracy) << what;
    }

    /// The parameters of a float network in double.
    static std::vector<double> in_double(const nn::ParameterLayout& layout, const Outcome& outcome) {
        std::vector<double> parameters(layout.arena_size());
        for (const nn::Tensor& tensor : layout.tensors()) {
            std::ranges::copy(outcome.tensors.at("/model/" + tensor.name), tensor.in(std::span(parameters)).begin());
        }
        return parameters;
    }

    mpi::Communicator world_ = mpi::Communicator::world();
    mpi::Communicator self_ = world_.split(world_.rank(), 0);
    support::SharedFolder folder_{world_};
};

TEST_F(TrainerTest, GivesTheSameBitsAsOneRank) {
    for (const std::string optimizer : {"momentum", "adam", "lars"}) {
        const std::vector<std::string> common{"--training.optimizer=" + optimizer, "--training.learning_rate=0.1"};
        const config::Config alone = configure("alone-" + optimizer, common);
        if (world_.is_root()) {
            EXPECT_EQ(run(alone, self_), core::ExitCode::ok);
        }
        for (const std::string ranks_per_node : {"0", "1", "2"}) {
            const std::string name = optimizer + "-on-nodes-of-" + ranks_per_node;
            auto overrides = common;
            overrides.insert(overrides.end(),
                             {"--parallel.reducer=node", "--parallel.ranks_per_node=" + ranks_per_node});
            const config::Config config = configure(name, overrides);
            EXPECT_EQ(run(config, world_), core::ExitCode::ok);
            if (world_.is_root()) {
                expect_same_bits(outcome(config), outcome(alone), name);
            }
        }
    }
}

TEST_F(TrainerTest, WithPlainAllreduceAgreesToRounding) {
    const config::Config alone = configure("alone");
    const config::Config config = configure("together", {"--parallel.reducer=mpi"});
    if (world_.is_root()) {
        EXPECT_EQ(run(alone, self_), core::ExitCode::ok);
    }
    EXPECT_EQ(run(config, world_), core::ExitCode::ok);
    if (world_.is_root()) {
        const Outcome expected = outcome(alone);
        const Outcome found = outcome(config);
        for (const auto& [path, values] : expected.tensors) {
            for (std::size_t i = 0; i < values.size(); ++i) {
                EXPECT_NEAR(found.tensors.at(path)[i], values[i], 1e-5F) << path;
            }
        }
    }
}

// If the batch is the complete training set, a step is gradient descent as in textbooks.
TEST_F(TrainerTest, AFullBatchIsTrueGradientDescent) {
    const std::vector<std::string> full{"--training.batch_size=all", "--training.learning_rate=2"};
    const config::Config before = configure("before", {"--training.epochs=0"});
    auto overrides = full;
    overrides.push_back("--training.epochs=1");
    const config::Config after = configure("after", overrides);
    EXPECT_EQ(run(before, world_), core::ExitCode::ok);
    EXPECT_EQ(run(after, world_), core::ExitCode::ok);
    if (!world_.is_root()) {
        return;
    }
    nn::Network<double> network(after.model.layers, sample_shape, support::products());
    network.reserve(nn::Extent::of(train_samples, 1));
    const Outcome start = outcome(before);
    const Outcome end = outcome(after);
    EXPECT_TRUE(start.record.step_cost.empty());
    ASSERT_EQ(end.record.step_cost.size(), 1U);

    const support::Digits digits = support::make_digits(train_samples, 1);
    std::vector<double> x;
    for (const char pixel : digits.pixels) {
        x.push_back(static_cast<std::uint8_t>(pixel) / 255.0);
    }
    const std::vector<std::uint8_t> labels(digits.labels.begin(), digits.labels.end());
    const std::vector<std::size_t> one_shard{0, train_samples};
    const std::vector<double> parameters = in_double(network.layout(), start);
    std::vector<double> gradient(parameters.size());
    nn::ShardGradients<double> gradients({{0, 1}}, {std::span(gradient)}, 1);
    const core::MatrixView<const double> samples{x.data(), train_samples, 64};
    const auto outputs = network.forward(parameters, {one_shard}, samples);
    const double cost =
        nn::find_cost<double>(after.model.cost)(outputs, labels, network.output_gradient(train_samples), 0);
    network.backward(parameters, one_shard, samples, gradients);

    EXPECT_NEAR(end.record.step_cost[0], cost / train_samples, 1e-6);
    const std::vector<double> found = in_double(network.layout(), end);
    double largest_change = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        const double change = -2 * gradient[i] / train_samples;
        EXPECT_NEAR(found[i], parameters[i] + change, 1e-6);
        largest_change = std::max(largest_change, std::abs(change));
    }
    EXPECT_GT(largest_change, 0.01);
}

// The weights hardly change. So the costs of an epoch's steps add up to the cost of the training set if every sample is
// used exactly once, for any batch size, including a smaller last batch.
TEST_F(TrainerTest, VisitsEverySampleOncePerEpoch) {
    std::vector<double> costs;
    for (const char* batch_size : {"all", "10", "7", "1"}) {
        const config::Config config =
            configure(std::string("batch-") + batch_size, {"--training.epochs=2", "--training.learning_rate=1e-30",
                                                           std::string("--training.batch_size=") + batch_size});
        EXPECT_EQ(run(config, world_), core::ExitCode::ok);
        if (world_.is_root()) {
            const auto& epochs = outcome(config).record.epochs;
            ASSERT_EQ(epochs.size(), 2U);
            costs.insert(costs.end(), epochs.train_cost.begin(), epochs.train_cost.end());
        }
    }
    for (const double cost : costs) {
        EXPECT_NEAR(cost, costs.front(), 1e-6);
    }
}

TEST_F(TrainerTest, Learns) {
    const config::Config config =
        configure("learns", {"--training.epochs=25", "--model.cost=cross_entropy",
                             "--model.layers=dense 11 relu, dense 4", "--training.learning_rate=0.5"});
    EXPECT_EQ(run(config, world_), core::ExitCode::ok);
    if (world_.is_root()) {
        const auto& epochs = outcome(config).record.epochs;
        ASSERT_EQ(epochs.size(), 25U);
        EXPECT_LT(epochs.train_cost.back(), epochs.train_cost.front() / 4);
        EXPECT_GT(epochs.test_accuracy.back(), 0.9);
    }
}

// A run that was interrupted after two epochs resumes on the same or another number of ranks. It ends with the weights
// of an uninterrupted run.
TEST_F(TrainerTest, ResumesWithTheSameBits) {
    const std::vector<std::string> momentum{"--training.optimizer=nesterov", "--training.learning_rate=0.1",
                                            "--parallel.reducer=node"};
    const auto with_epochs = [&](const std::string& output, int epochs) {
        auto overrides = momentum;
        overrides.push_back("--training.epochs=" + std::to_string(epochs));
        return configure(output, overrides);
    };
    const config::Config uninterrupted = with_epochs("uninterrupted", 4);
    EXPECT_EQ(run(uninterrupted, world_), core::ExitCode::ok);
    EXPECT_EQ(run(with_epochs("in-parts", 2), world_), core::ExitCode::ok);
    EXPECT_EQ(run(with_epochs("in-parts", 4), world_), core::ExitCode::ok);
    if (world_.is_root()) {
        EXPECT_EQ(run(with_epochs("alone-first", 2), self_), core::ExitCode::ok);
    }
    world_.barrier();
    EXPECT_EQ(run(with_epochs("alone-first", 4), world_), core::ExitCode::ok);
    if (world_.is_root()) {
        const Outcome expected = outcome(uninterrupted);
        EXPECT_EQ(expected.record.epochs.size(), 4U);
        expect_same_bits(outcome(with_epochs("in-parts", 4)), expected, "in parts");
        expect_same_bits(outcome(with_epochs("alone-first", 4)), expected, "alone first");
    }
}

TEST_F(TrainerTest, HasNothingLeftToDoTheSecondTime) {
    const config::Config config = configure("twice");
    EXPECT_EQ(run(config, world_), core::ExitCode::ok);
    const std::string before = support::read_text(config.output.directory / "log.h5");
    world_.barrier();
    EXPECT_EQ(run(config, world_), core::ExitCode::ok);
    EXPECT_EQ(support::read_text(config.output.directory / "log.h5"), before);
}

TEST_F(TrainerTest, LogsTheDocumentedDatasets) {
    const config::Config config = configure("logged");
    EXPECT_EQ(run(config, world_), core::ExitCode::ok);
    if (!world_.is_root()) {
        return;
    }
    const io::Hdf5Image log(io::read_file(config.output.directory / "log.h5"), "log.h5");
    EXPECT_EQ(log.shape("/steps/accuracy"), std::vector<std::size_t>{18});
    EXPECT_EQ(log.shape("/steps/cost"), std::vector<std::size_t>{18}); // 53 samples in batches of 10, three times
    EXPECT_EQ(log.values<std::int64_t>("/epochs/step"), (std::vector<std::int64_t>{6, 12, 18}));
    const std::vector<std::size_t> by_rank{3, static_cast<std::size_t>(world_.size())};
    for (const char* name :
         {"/ranks/compute_seconds", "/ranks/reduce_seconds", "/ranks/wait_seconds", "/ranks/data_seconds"}) {
        EXPECT_EQ(log.shape(name), by_rank);
    }
    EXPECT_EQ(log.integer("ranks"), world_.size());
    EXPECT_EQ(log.integer("parameters"), 64 * 11 + 11 + 11 * 4 + 4);
    EXPECT_EQ(log.text("config"), config.resolved());
    EXPECT_TRUE(support::read_text(config.output.directory / "config.ini").ends_with("\n" + config.resolved()));
}

// Many epochs: log and checkpoint are not written after each one.
TEST_F(TrainerTest, EndsWithACompleteLogAndCheckpointAfterVeryShortEpochs) {
    if (world_.size() > 1) {
        return; // rank 0 alone postpones writing
    }
    const config::Config config = configure("short", {"--training.epochs=12000", "--data.train_samples=9",
                                                      "--data.test_samples=9", "--parallel.check_every=0"});
    EXPECT_EQ(run(config, world_), core::ExitCode::ok);
    const io::Hdf5Image log(io::read_file(config.output.directory / "log.h5"), "log.h5");
    EXPECT_EQ(log.shape("/epochs/epoch"), std::vector<std::size_t>{12000});
    EXPECT_EQ(log.shape("/ranks/compute_seconds"), (std::vector<std::size_t>{12000, 1}));
    EXPECT_EQ(outcome(config).record.epochs.epoch.back(), 12000);
}

TEST_F(TrainerTest, RefusesOnAllRanksAlikeAndWritesNothing) {
    const auto expect_refused = [&](core::ExitCode code, std::string_view part,
                                    const std::vector<std::string>& overrides) {
        const config::Config config = configure("refused", overrides);
        const auto error = error_of<mpi::AgreedError>([&] { (void)run(config, world_); });
        ASSERT_TRUE(error) << part;
        EXPECT_EQ(error->code(), code) << error->what();
        EXPECT_NE(std::string_view(error->what()).find(part), std::string_view::npos) << error->what();
        EXPECT_FALSE(std::filesystem::exists(config.output.directory)) << part;
        world_.barrier();
    };
    using core::ExitCode;
    expect_refused(ExitCode::bad_config, "sdg", {"--training.optimizer=sdg"});
    expect_refused(ExitCode::bad_config, "ring", {"--parallel.reducer=ring"});
    expect_refused(ExitCode::bad_config, "cubic", {"--model.cost=cubic"});
    expect_refused(ExitCode::bad_config, "dense x", {"--model.layers=dense x"});
    expect_refused(ExitCode::bad_config, "linear", {"--model.cost=cross_entropy"});
    expect_refused(ExitCode::bad_config, "train_samples", {"--data.train_samples=54"});
    expect_refused(ExitCode::bad_data, "absent", {"--data.directory=" + (folder_ / "absent").string()});
    expect_refused(ExitCode::bad_data, "classes", {"--model.layers=dense 3 sigmoid"});
    if (world_.size() > 1) {
        expect_refused(ExitCode::bad_config, "logical_shards=" + std::to_string(world_.size()),
                       {"--parallel.logical_shards=" + std::to_string(world_.size() - 1)});
    }
}

TEST_F(TrainerTest, DetectsDivergenceOnAllRanksAlike) {
    const config::Config config =
        configure("diverged", {"--training.learning_rate=1e6", "--model.layers=dense 11 relu, dense 4"});
    const auto error = error_of<mpi::AgreedError>([&] { (void)run(config, world_); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::diverged);
    EXPECT_NE(std::string_view(error->what()).find("diverged: in step"), std::string_view::npos) << error->what();
}

// The log and the best network of early epochs use up the time for writing, so later ones are postponed.
TEST_F(TrainerTest, WritesWhatWasPostponedBeforeItEndsByDivergence) {
    const config::Config config =
        configure("postponed", {"--model.layers=dense 4 linear", "--training.epochs=100", "--training.learning_rate=1",
                                "--training.warmup_epochs=100"});
    threads_seem_slow = true;
    const auto error = error_of<mpi::AgreedError>([&] { (void)run(config, world_); });
    threads_seem_slow = false;
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::diverged);
    if (!world_.is_root()) {
        return;
    }
    const std::filesystem::path log = config.output.directory / "log.h5";
    const io::RunRecord record = io::RunRecord::from(io::Hdf5Image(io::read_file(log), log.string()));
    BestEpoch best;
    for (std::size_t i = 0; i < record.epochs.size(); ++i) {
        best.add(record.epochs.epoch[i], {record.epochs.test_cost[i], record.epochs.test_accuracy[i]});
    }
    EXPECT_GT(best.epoch, 2) << "postponed";
    EXPECT_LT(best.epoch, record.epochs.epoch.back()) << "diverged since then";
    const std::filesystem::path file = config.output.directory / "checkpoints" / "best.h5";
    ASSERT_TRUE(std::filesystem::exists(file));
    const io::Checkpoint written(file);
    EXPECT_EQ(written.info().epoch, best.epoch);
    EXPECT_EQ(written.info().fingerprint, record.epochs.fingerprint[static_cast<std::size_t>(best.epoch - 1)]);
    EXPECT_EQ(written.info().record.epochs.test_cost.back(), best.score.cost);
}

// Everything is allocated before the first step: more steps in the same number of epochs cause no more allocations. The
// watchdog allocates periodically, but on another thread.
TEST_F(TrainerTest, AStepAllocatesNothing) {
    const auto allocations = [&](const std::string& batch_size) {
        const config::Config config =
            configure("batch-" + batch_size, {"--training.epochs=4", "--training.batch_size=" + batch_size,
                                              "--training.optimizer=lars", // it does more than the others
                                              "--training.learning_rate=0.1", "--output.checkpoint_every=1000 epochs"});
        ::testing::internal::CaptureStdout();
        Trainer trainer(config, world_);
        const std::size_t before = support::own_allocation_count;
        EXPECT_EQ(trainer.run(), core::ExitCode::ok);
        const std::size_t after = support::own_allocation_count;
        (void)::testing::internal::GetCapturedStdout();
        return after - before;
    };
    const std::size_t few_steps = allocations("27"); // 2 steps in an epoch
    const std::size_t many_steps = allocations("1"); // 53 steps
    // Messages of another length may allocate occasionally. An allocation per step would add 204.
    EXPECT_LT(many_steps, few_steps + 20);
}

} // namespace
} // namespace dtrain::run
