#include "dtrain/io/file.hpp"
#include "dtrain/run/run_files.hpp"

#include "support/errors.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::run {
namespace {

using support::error_of;
using Strings = std::vector<std::string>;
using Steps = std::vector<std::int64_t>;

const std::string heading = "# Written by dtrain: every key of the run in this folder.\n";
constexpr auto no_warning = [](std::string_view text) { ADD_FAILURE() << text; };

class RunFilesTest : public ::testing::Test {
  protected:
    [[nodiscard]] config::Config configured(Strings more = {}) const {
        more.insert(more.begin(), "--output.directory=" + run_.string());
        return config::parse("", "x.ini", more);
    }

    /// A checkpoint of a run with one weight. Its value is `step`.
    static std::shared_ptr<const RunFiles::Snapshot> snapshot(const config::Config& config, std::int64_t step,
                                                              const std::string& dataset = "digits") {
        auto snapshot = std::make_shared<RunFiles::Snapshot>();
        io::CheckpointInfo& info = snapshot->info;
        info.step = step;
        info.config = config.resolved();
        info.dataset = dataset;
        info.sample_shape = {4};
        snapshot->values = core::Buffer<float>(1);
        snapshot->values.data()[0] = static_cast<float>(step);
        snapshot->tensors = {{"/model/01_dense/bias", {1}, snapshot->values.values()}};
        return snapshot;
    }
    static std::shared_ptr<const io::RunRecord> record_of_steps(std::int64_t steps) {
        auto record = std::make_shared<io::RunRecord>();
        record->step_cost.resize(static_cast<std::size_t>(steps));
        record->step_accuracy.resize(static_cast<std::size_t>(steps));
        return record;
    }
    static void write_checkpoint(RunFiles& files, const config::Config& config, std::int64_t step,
                                 const std::string& dataset = "digits") {
        files.write_checkpoint(snapshot(config, step, dataset), record_of_steps(step));
        files.wait();
    }

    /// A complete earlier run in the folder.
    void leave_run(const config::Config& config, const Steps& steps) const {
        RunFiles files(config);
        (void)files.open();
        files.write_log({}, std::make_shared<io::RunRecord>());
        for (const std::int64_t step : steps) {
            write_checkpoint(files, config, step);
        }
        files.wait();
    }

    void flip_a_bit(std::int64_t step) const {
        const std::filesystem::path file = checkpoints_.file(step);
        std::string contents = support::read_text(file);
        contents[contents.find("/model")] ^= 1;
        support::write_file(file, contents);
    }

    /// The step of the newest valid checkpoint, and the reasons why newer ones are skipped.
    static std::optional<std::int64_t> newest_step(RunFiles& files, Strings& warnings) {
        const auto found = files.newest("digits", [&](std::string_view text) { warnings.emplace_back(text); });
        return found ? std::optional(found->info().step) : std::nullopt;
    }

    support::TemporaryFolder folder_;
    std::filesystem::path run_ = folder_ / "run";
    io::CheckpointFolder checkpoints_{run_ / "checkpoints"};
};

TEST_F(RunFilesTest, CreatesTheFolderWhenOpened) {
    const config::Config config = configured();
    RunFiles files(config);
    EXPECT_EQ(files.newest("digits", no_warning), std::nullopt);
    EXPECT_FALSE(files.locked());
    EXPECT_FALSE(std::filesystem::exists(run_));
    EXPECT_EQ(files.open().aside, std::nullopt);
    EXPECT_TRUE(files.locked());
    EXPECT_TRUE(std::filesystem::is_directory(checkpoints_.path()));
    EXPECT_EQ(support::read_text(run_ / "config.ini"), heading + config.resolved());
}

TEST_F(RunFilesTest, LocksItsFolder) {
    const config::Config config = configured();
    const auto expect_in_use = [&] {
        const auto error = error_of([&] { const RunFiles other(config); });
        ASSERT_TRUE(error);
        EXPECT_EQ(error->code(), core::ExitCode::bad_output);
        EXPECT_NE(std::string_view(error->what()).find("in use by another run"), std::string_view::npos);
    };
    {
        RunFiles files(config);
        (void)files.open();
        expect_in_use();
    }
    const RunFiles next(config); // an existing folder is locked before `open`
    EXPECT_TRUE(next.locked());
    expect_in_use();
}

TEST_F(RunFilesTest, ResumesFromTheNewestCheckpoint) {
    const config::Config config = configured();
    leave_run(config, {9, 10});
    RunFiles files(config);
    const auto found = files.newest("digits", no_warning);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->info().step, 10);
    EXPECT_EQ(found->info().record.step_cost.size(), 10U);
    float weight = 0;
    found->read(std::vector<io::TensorView>{{"/model/01_dense/bias", {1}, std::span(&weight, 1)}});
    EXPECT_EQ(weight, 10);
}

TEST_F(RunFilesTest, AResumedRunKeepsWhereItsWeightsCameFrom) {
    leave_run(configured({"--model.initial=first"}), {1});
    for (const char* now : {"random", "second", "first"}) {
        const config::Config config = configured({std::string("--model.initial=") + now});
        RunFiles files(config);
        EXPECT_TRUE(files.newest("digits", no_warning));
        EXPECT_EQ(files.config().model.initial, "first");
        (void)files.open();
        EXPECT_NE(support::read_text(run_ / "config.ini").find("\ninitial = first\n"), std::string::npos) << now;
    }
}

TEST_F(RunFilesTest, SkipsDamagedCheckpointsAndRenamesThem) {
    const config::Config config = configured({"--output.keep_checkpoints=0"});
    leave_run(config, {1, 2, 3, 4, 5});
    flip_a_bit(5);
    std::filesystem::remove(checkpoints_.file(4));
    std::filesystem::create_directory(checkpoints_.file(4));
    std::filesystem::copy_file(checkpoints_.file(1), checkpoints_.file(3),
                               std::filesystem::copy_options::overwrite_existing);
    RunFiles files(config);
    Strings warnings;
    EXPECT_EQ(newest_step(files, warnings), 2);
    const Strings why{"step-00000005.h5", "cannot read", "contains step 1, which does not match its name"};
    ASSERT_EQ(warnings.size(), why.size());
    for (std::size_t i = 0; i < why.size(); ++i) {
        const std::int64_t step = 5 - static_cast<std::int64_t>(i);
        EXPECT_NE(warnings[i].find(why[i]), std::string::npos) << warnings[i];
        EXPECT_TRUE(
            warnings[i].ends_with("this file is renamed to " +
                                  io::CheckpointFolder::name_if_damaged(checkpoints_.file(step)).filename().string()))
            << warnings[i];
    }
    EXPECT_EQ(checkpoints_.steps(), (Steps{5, 4, 3, 2, 1})) << "nothing is renamed before `open`";
    EXPECT_EQ(files.open().aside, std::nullopt);
    EXPECT_EQ(checkpoints_.steps(), (Steps{2, 1}));
    for (const char* name : {"step-00000005.h5.damaged", "step-00000004.h5.damaged", "step-00000003.h5.damaged"}) {
        EXPECT_TRUE(std::filesystem::exists(checkpoints_.path() / name)) << name;
    }
}

TEST_F(RunFilesTest, RefusesToStartFromScratchIfAllCheckpointsAreDamaged) {
    const config::Config config = configured();
    leave_run(config, {1, 2});
    flip_a_bit(1);
    flip_a_bit(2);
    RunFiles files(config);
    Strings warnings;
    const auto error = error_of([&] { (void)newest_step(files, warnings); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_checkpoint);
    EXPECT_EQ(error->what(), checkpoints_.path().string() +
                                 ": no valid checkpoint is left. Use --output.resume=never to start from scratch");
    EXPECT_EQ(warnings.size(), 2U);
}

TEST_F(RunFilesTest, RefusesTheCheckpointOfAnotherRun) {
    const config::Config before = configured();
    leave_run(before, {1});
    const std::vector<Strings> changes{
        {"--model.layers=dense 10 sigmoid", "[model] layers"},
        {"--model.cost=cross_entropy", "[model] cost"},
        {"--model.seed=2", "[model] seed = 1, the config has 2."},
        {"--data.train_samples=7", "[data] train_samples"},
        {"--training.batch_size=all", "[training] batch_size"},
        {"--training.optimizer=adam", "[training] optimizer = sgd, the config has adam."},
        {"--parallel.logical_shards=9", "[parallel] logical_shards"},
    };
    for (const Strings& change : changes) {
        const config::Config config = configured({change[0]});
        RunFiles files(config);
        const auto error = error_of([&] { (void)files.newest("digits", no_warning); });
        ASSERT_TRUE(error) << change[0];
        EXPECT_EQ(error->code(), core::ExitCode::bad_checkpoint);
        EXPECT_NE(std::string_view(error->what()).find("cannot resume: the checkpoint has " + change[1]),
                  std::string_view::npos)
            << error->what();
    }
    {
        RunFiles files(before);
        const auto error = error_of([&] { (void)files.newest("letters", no_warning); });
        ASSERT_TRUE(error);
        EXPECT_NE(std::string_view(error->what()).find("data set = digits, the config has letters."),
                  std::string_view::npos);
    }
    const config::Config longer = configured({"--training.epochs=99", "--training.learning_rate=1",
                                              "--parallel.reducer=mpi", "--output.checkpoint_every=3 steps"});
    RunFiles files(longer);
    EXPECT_TRUE(files.newest("digits", no_warning)) << "these keys may change";
}

TEST_F(RunFilesTest, StartingFromScratchMovesTheEarlierRun) {
    const config::Config first = configured({"--model.seed=3"});
    leave_run(first, {1, 2});
    const std::string log = support::read_text(run_ / "log.h5");
    const config::Config from_scratch = configured({"--output.resume=never"});
    for (const char* name : {"checkpoints-before-1", "checkpoints-before-2"}) {
        RunFiles files(from_scratch);
        EXPECT_EQ(files.newest("digits", no_warning), std::nullopt);
        EXPECT_EQ(files.open().aside, run_ / name);
        EXPECT_EQ(checkpoints_.steps(), Steps());
        EXPECT_FALSE(std::filesystem::exists(files.log_file()));
        EXPECT_EQ(support::read_text(run_ / "config.ini"), heading + from_scratch.resolved());
        write_checkpoint(files, from_scratch, 7);
    }
    const io::CheckpointFolder before(run_ / "checkpoints-before-1");
    EXPECT_EQ(before.steps(), (Steps{2, 1}));
    EXPECT_EQ(support::read_text(before.path() / "log.h5"), log);
    EXPECT_EQ(support::read_text(before.path() / "config.ini"), heading + first.resolved());
    EXPECT_EQ(io::CheckpointFolder(run_ / "checkpoints-before-2").steps(), (Steps{7}));
}

TEST_F(RunFilesTest, StartingFromScratchMovesNothingInAnEmptyFolder) {
    const config::Config from_scratch = configured({"--output.resume=never"});
    std::filesystem::create_directory(run_);
    support::write_file(run_ / "notes.txt", "mine");
    RunFiles files(from_scratch);
    EXPECT_EQ(files.open().aside, std::nullopt);
    EXPECT_EQ(support::read_text(run_ / "notes.txt"), "mine");
}

// As with output.directory = . in a config with the name config.ini.
TEST_F(RunFilesTest, KeepsTheUsersConfig) {
    std::filesystem::create_directory(run_);
    const std::string own = "# mine\n[output]\ndirectory = " + run_.string() + "\n";
    support::write_file(run_ / "config.ini", own);
    for (const char* resume : {"auto", "never", "auto"}) {
        const config::Config config =
            config::load(run_ / "config.ini", {"--model.seed=5", std::string("--output.resume=") + resume});
        RunFiles files(config);
        const RunFiles::Opened opened = files.open();
        EXPECT_EQ(opened.resolved_config, run_ / "config-resolved.ini");
        EXPECT_EQ(support::read_text(run_ / "config.ini"), own) << resume;
        EXPECT_EQ(support::read_text(run_ / "config-resolved.ini"), heading + config.resolved());
        write_checkpoint(files, config, 7);
    }
}

TEST_F(RunFilesTest, ReplacesNeitherTheConfigItReadsNorAForeignOne) {
    leave_run(configured(), {});
    const std::string resolved = support::read_text(run_ / "config.ini");
    const config::Config same = config::load(run_ / "config.ini");
    {
        RunFiles files(same);
        EXPECT_EQ(files.open().resolved_config, std::nullopt) << "the config that is read is already resolved";
    }
    const config::Config other = config::load(run_ / "config.ini", {"--training.epochs=9"});
    {
        RunFiles files(other);
        EXPECT_EQ(files.open().resolved_config, run_ / "config-resolved.ini");
    }
    EXPECT_EQ(support::read_text(run_ / "config.ini"), resolved);
    support::write_file(run_ / "config-resolved.ini", "mine as well");
    RunFiles files(other);
    const auto error = error_of([&] { (void)files.open(); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    EXPECT_EQ(support::read_text(run_ / "config-resolved.ini"), "mine as well");
}

TEST_F(RunFilesTest, RefusesBeforeItMovesOrWrites) {
    leave_run(configured(), {1, 2});
    flip_a_bit(2);
    for (const char* name : {"config.ini", "config-resolved.ini"}) {
        support::write_file(run_ / name, "mine");
    }
    support::write_file(run_ / "log.h5.tmp", "half");
    const auto names = [this] {
        std::set<std::filesystem::path> all;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(run_)) {
            all.insert(entry.path());
        }
        return all;
    };
    const auto before = names();
    for (const char* resume : {"auto", "never"}) {
        const config::Config config = configured({std::string("--output.resume=") + resume});
        RunFiles files(config);
        Strings warnings;
        (void)newest_step(files, warnings);
        EXPECT_TRUE(error_of([&] { (void)files.open(); })) << resume;
        EXPECT_EQ(names(), before) << resume;
    }
}

// Version 0.1 wrote the resolved config without a heading.
TEST_F(RunFilesTest, ReplacesTheResolvedConfigOfAnEarlierVersion) {
    const config::Config config = configured({"--training.epochs=9"});
    std::filesystem::create_directory(run_);
    std::string resolved = configured().resolved();
    resolved.replace(resolved.find("data/mnist"), 10, "\"~/$HOME\" ; not expanded");
    resolved.erase(resolved.find("micro_batch"), std::string_view("micro_batch = 0\n").size()); // a newer key
    support::write_file(run_ / "config.ini", resolved);
    RunFiles files(config);
    EXPECT_EQ(files.open().resolved_config, std::nullopt);
    EXPECT_EQ(support::read_text(run_ / "config.ini"), heading + config.resolved());
}

TEST_F(RunFilesTest, RefusesAFolderWithAForeignLog) {
    std::filesystem::create_directory(run_);
    for (const char* name : {"notes", "checkpoint"}) {
        support::write_file(run_ / "log.h5", name);
        if (name == std::string("checkpoint")) {
            io::CheckpointInfo info;
            info.sample_shape = {4};
            io::replace_file(run_ / "log.h5", io::encode_checkpoint(info, {}));
        }
        const std::string before = support::read_text(run_ / "log.h5");
        const auto error = error_of([&] { const RunFiles files(configured()); });
        ASSERT_TRUE(error) << name;
        EXPECT_EQ(error->code(), core::ExitCode::bad_output);
        EXPECT_NE(std::string_view(error->what()).find("log.h5 was not written by dtrain"), std::string_view::npos);
        EXPECT_EQ(support::read_text(run_ / "log.h5"), before);
    }
}

// The run's folder is moved away while it continues, and another run starts at the old path.
TEST_F(RunFilesTest, DetectsThatItsFolderWasMoved) {
    const config::Config config = configured();
    RunFiles first(config);
    (void)first.open();
    std::filesystem::rename(run_, folder_ / "moved");
    RunFiles second(config);
    (void)second.open();
    write_checkpoint(second, config, 4);
    const auto error = error_of([&] { write_checkpoint(first, config, 9); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    EXPECT_NE(std::string_view(error->what()).find((folder_ / "moved").string()), std::string_view::npos);
    EXPECT_TRUE(first.failed());
    EXPECT_EQ(checkpoints_.steps(), Steps{4});
    EXPECT_EQ(io::CheckpointFolder(folder_ / "moved" / "checkpoints").steps(), Steps());
}

TEST_F(RunFilesTest, WarnsIfTheDiskIsTooFullForTheRun) {
    const auto free = static_cast<double>(std::filesystem::space(folder_.path()).available);
    const auto part = [&](double share) { return static_cast<std::size_t>(share * free); };
    const auto warns = [&](Strings settings, std::size_t state_bytes, const char* best = "false") {
        settings.push_back(std::string("--output.keep_best=") + best);
        const config::Config config = configured(settings);
        RunFiles files(config);
        (void)files.open();
        const auto warning = files.find_full_disk(state_bytes, 10, 10 * config.training.epochs, 2);
        EXPECT_TRUE(!warning || warning->starts_with(run_.string() + " has ")) << *warning;
        return warning.has_value();
    };
    EXPECT_FALSE(warns({}, 1000));
    EXPECT_TRUE(warns({}, part(1.2))) << "one checkpoint";
    EXPECT_TRUE(warns({"--output.keep_checkpoints=1"}, part(0.6))) << "the new checkpoint and the one that it replaces";
    EXPECT_FALSE(warns({"--output.keep_checkpoints=1"}, part(0.4)));
    EXPECT_TRUE(warns({"--output.keep_checkpoints=1"}, part(0.4), "true")) << "and the best one";
    EXPECT_TRUE(warns({"--output.keep_checkpoints=2"}, part(0.4)));
    EXPECT_FALSE(warns({"--output.keep_checkpoints=2", "--training.epochs=1"}, part(0.4)));
    EXPECT_TRUE(
        warns({"--output.keep_checkpoints=0", "--training.epochs=9", "--output.checkpoint_every=3 steps"}, part(0.04)))
        << "thirty checkpoints";
    EXPECT_FALSE(warns({"--output.keep_checkpoints=0", "--training.epochs=9"}, part(0.04)));
    leave_run(configured(), {1, 2});
    EXPECT_FALSE(warns({"--output.keep_checkpoints=2"}, part(0.8))) << "they replace earlier ones";
}

TEST_F(RunFilesTest, RemovesHalfWrittenFiles) {
    const config::Config config = configured();
    leave_run(config, {1});
    const std::vector<std::filesystem::path> halves{run_ / "log.h5.tmp", run_ / "config.ini.tmp",
                                                    checkpoints_.path() / "step-00000002.h5.tmp",
                                                    checkpoints_.path() / "best.h5.tmp"};
    for (const auto& half : halves) {
        support::write_file(half, "half");
    }
    RunFiles files(config);
    (void)files.open();
    for (const auto& half : halves) {
        EXPECT_FALSE(std::filesystem::exists(half)) << half;
    }
    EXPECT_EQ(checkpoints_.steps(), Steps{1});
}

TEST_F(RunFilesTest, KeepsTheNewestCheckpoints) {
    for (const auto& [keep, left] : {std::pair<std::string, Steps>("2", {4, 3}), {"1", {5}}, {"0", {7, 6, 5}}}) {
        const config::Config config = configured({"--output.keep_checkpoints=" + keep});
        RunFiles files(config);
        (void)files.open();
        for (std::int64_t step = left.front() - 2; step <= left.front(); ++step) {
            write_checkpoint(files, config, step);
        }
        EXPECT_EQ(checkpoints_.steps(), left) << keep;
        EXPECT_EQ(files.dropped_checkpoints(), 0U);
    }
}

TEST_F(RunFilesTest, WritesTheBestNetworkWithItsOwnRecord) {
    const config::Config config = configured({"--output.keep_checkpoints=1"});
    RunFiles files(config);
    (void)files.open();
    files.write_best(snapshot(config, 3), record_of_steps(5));
    write_checkpoint(files, config, 5);
    write_checkpoint(files, config, 6);
    EXPECT_EQ(checkpoints_.steps(), Steps{6}) << "pruning must not remove or count the best one";
    const io::Checkpoint best(checkpoints_.best_file());
    EXPECT_EQ(best.info().step, 3);
    EXPECT_EQ(best.info().record.step_cost.size(), 3U);
    float weight = 0;
    best.read(std::vector<io::TensorView>{{"/model/01_dense/bias", {1}, {&weight, 1}}});
    EXPECT_EQ(weight, 3);
}

// Otherwise that checkpoint would name a best epoch whose network is nowhere.
TEST_F(RunFilesTest, ABestNetworkThatAPendingCheckpointCountsIsReplacedAndNotForgotten) {
    const config::Config config = configured();
    RunFiles files(config);
    (void)files.open();
    const auto large = record_of_steps(1'000'000);
    bool replaced = false;
    std::int64_t step = 0;
    for (int attempt = 0; attempt < 20 && !replaced; ++attempt) { // until the writer is still busy with the log
        step += 2;
        files.write_log({}, large);
        files.write_best(snapshot(config, step), large);
        files.write_checkpoint(snapshot(config, step), record_of_steps(step));
        const auto better = [&] {
            EXPECT_FALSE(std::filesystem::exists(checkpoints_.file(step)));
            return std::pair(snapshot(config, step + 1), large);
        };
        replaced = files.replace_waiting_best(better);
        files.wait();
    }
    EXPECT_TRUE(replaced);
    EXPECT_EQ(checkpoints_.steps().front(), step);
    EXPECT_EQ(io::Checkpoint(checkpoints_.best_file()).info().step, step + 1);
    const auto unused = [] {
        ADD_FAILURE() << "taken";
        return RunFiles::SnapshotAndRecord();
    };
    EXPECT_FALSE(files.replace_waiting_best(unused)) << "none waits";
    files.write_best(snapshot(config, step + 2), large);
    EXPECT_FALSE(files.replace_waiting_best(unused)) << "no checkpoint counts it";
}

TEST_F(RunFilesTest, RestoresTheBestNetworkFromItsCheckpoint) {
    const config::Config config = configured();
    RunFiles files(config);
    (void)files.open();
    const auto with_fingerprint = [&](std::int64_t step) {
        auto copy = std::make_shared<RunFiles::Snapshot>();
        copy->info = snapshot(config, step)->info;
        copy->info.fingerprint = static_cast<std::uint64_t>(10 * step);
        return copy;
    };
    EXPECT_FALSE(files.restore_best(1, 10)) << "nothing is there";
    for (const std::int64_t step : {1, 2, 3}) {
        files.write_checkpoint(with_fingerprint(step), record_of_steps(step));
        files.wait();
    }
    EXPECT_TRUE(files.restore_best(1, 10));
    const std::string first = support::read_text(checkpoints_.file(1));
    EXPECT_EQ(support::read_text(checkpoints_.best_file()), first);
    std::filesystem::remove(checkpoints_.file(1));
    EXPECT_TRUE(files.restore_best(1, 10)) << "it is there already";
    EXPECT_FALSE(files.restore_best(1, 11)) << "the network of another path";
    EXPECT_FALSE(files.restore_best(4, 40));
    std::string damaged = support::read_text(checkpoints_.file(3));
    damaged[damaged.size() / 2] ^= 1;
    damaged.resize(damaged.size() - 1);
    support::write_file(checkpoints_.file(3), damaged);
    EXPECT_FALSE(files.restore_best(3, 30));
    EXPECT_EQ(support::read_text(checkpoints_.best_file()), first);
    EXPECT_TRUE(files.restore_best(2, 20)) << "of later steps, which were given up";
    EXPECT_EQ(support::read_text(checkpoints_.best_file()), support::read_text(checkpoints_.file(2)));
}

TEST_F(RunFilesTest, WaitingCheckpointsFitIntoMemory) {
    constexpr std::size_t megabyte = 1 << 20;
    const config::Config three = configured();
    EXPECT_EQ(RunFiles::max_kept(three), 3U);
    EXPECT_EQ(RunFiles::max_waiting(three, megabyte), 3U);
    EXPECT_EQ(RunFiles::max_waiting(three, 8 * megabyte), 2U);
    EXPECT_EQ(RunFiles::max_waiting(three, 100 * megabyte), 1U);
    const config::Config all = configured({"--output.keep_checkpoints=0"});
    EXPECT_EQ(RunFiles::max_waiting(all, megabyte), 16U);
    // One is being written, which takes three times its size, and three wait.
    const config::Config without_best = configured({"--output.keep_best=false"}); // writing_bytes() refers to it
    EXPECT_EQ(RunFiles::writing_bytes(without_best)(1000), 6000U);
    EXPECT_EQ(RunFiles::writing_bytes(three)(1000), 7000U) << "and the best one";
}

/// The contents of the log, including /ranks.
struct Log {
    explicit Log(const std::filesystem::path& file)
        : image(io::read_file(file), file.string()), ranks(io::RankSeconds::from(image)),
          epochs(io::RunRecord::from(image).epochs) {}
    io::Hdf5Image image;
    io::RankSeconds ranks;
    io::RunRecord::Epochs epochs;
};

std::shared_ptr<io::RunRecord> record_of_epochs(std::int64_t epochs) {
    auto record = std::make_shared<io::RunRecord>();
    for (std::int64_t epoch = 1; epoch <= epochs; ++epoch) {
        record->step_cost.push_back(1);
        record->step_accuracy.push_back(0);
        record->epochs.epoch.push_back(epoch);
        record->epochs.step.push_back(epoch);
        for (auto* column : {&record->epochs.train_cost, &record->epochs.train_accuracy, &record->epochs.test_cost,
                             &record->epochs.test_accuracy, &record->epochs.learning_rate, &record->epochs.seconds,
                             &record->epochs.samples_per_second}) {
            column->push_back(0.5);
        }
        record->epochs.fingerprint.push_back(0);
    }
    return record;
}

RunFiles::LogHeader header_of(std::int64_t ranks) {
    RunFiles::LogHeader header;
    header.ranks = ranks;
    header.reducer = "node";
    return header;
}

TEST_F(RunFilesTest, ReplacesTheLogAndKeepsTheTimesOfAnEarlierStart) {
    const config::Config config = configured();
    {
        RunFiles files(config);
        (void)files.open();
        for (const std::size_t earlier : {0U, 1U}) {
            files.add_rank_seconds(std::vector<io::PhaseSeconds>{{1, 2, 3, 4}, {5, 6, 7, 8}}, earlier);
            files.write_log(header_of(2), record_of_epochs(static_cast<std::int64_t>(earlier) + 1));
        }
        files.wait();
        const Log log(files.log_file());
        EXPECT_EQ(log.epochs.epoch, (Steps{1, 2}));
        EXPECT_EQ(log.image.integer("ranks"), 2);
        EXPECT_EQ(log.image.text("reducer"), "node");
        EXPECT_EQ(log.image.text("config"), config.resolved());
    }
    RunFiles files(config); // resumes after the first epoch, on one rank
    (void)files.open();
    files.add_rank_seconds(std::vector<io::PhaseSeconds>{{9, 9, 9, 9}}, 1);
    files.write_log(header_of(1), record_of_epochs(2));
    files.wait();
    const Log log(files.log_file());
    EXPECT_EQ(log.image.integer("ranks"), 1);
    EXPECT_EQ(log.ranks.epochs, 2U);
    ASSERT_EQ(log.ranks.ranks, 2U);
    EXPECT_EQ(std::vector(log.ranks.wait.begin(), log.ranks.wait.begin() + 3), (std::vector<double>{3, 7, 9}));
    EXPECT_TRUE(std::isnan(log.ranks.wait[3]));
}

TEST_F(RunFilesTest, LosesOnlyTheTimesInADamagedLog) {
    const config::Config config = configured();
    for (const bool damaged : {false, true}) {
        {
            RunFiles files(config);
            (void)files.open();
            files.add_rank_seconds(std::vector<io::PhaseSeconds>{{5, 6, 7, 8}}, 0);
            files.write_log({}, record_of_epochs(1));
            files.wait();
        }
        std::string contents = support::read_text(run_ / "log.h5");
        contents[damaged ? contents.find("/ranks") : contents.find("\x89HDF") + 20] ^=
            1; // a byte of HDF5's own, as h5py changes it
        support::write_file(run_ / "log.h5", contents);
        RunFiles files(config);
        (void)files.open();
        files.add_rank_seconds(std::vector<io::PhaseSeconds>{{1, 2, 3, 4}}, 1);
        files.write_log({}, record_of_epochs(2));
        files.wait();
        const Log log(files.log_file());
        ASSERT_EQ(log.ranks.compute.size(), 2U);
        EXPECT_EQ(std::isnan(log.ranks.compute[0]), damaged);
        EXPECT_EQ(log.ranks.compute[1], 1);
    }
}

TEST_F(RunFilesTest, WaitingThrowsTheErrorsOfTheWriter) {
    const config::Config config = configured();
    RunFiles files(config);
    (void)files.open();
    std::filesystem::create_directories(files.log_file() / "in the way");
    files.write_log({}, std::make_shared<io::RunRecord>());
    const auto error = error_of([&] { files.wait(); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    EXPECT_TRUE(files.failed());
}

} // namespace
} // namespace dtrain::run
