#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/file.hpp"

#include "support/errors.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::io {
namespace {

using support::error_of;

CheckpointInfo make_info() {
    CheckpointInfo info;
    info.epoch = 1;
    info.step = 3;
    info.seed = 42;
    info.logical_shards = 8;
    info.config = "[model]\nseed = 42\n";
    info.dataset = "MNIST";
    info.sample_shape = {28, 28};
    info.rounding = "fused multiply-add";
    info.record.step_cost = {3, 2, 1};
    info.record.step_accuracy = {0.25F, 0.5F, 0.75F};
    info.record.epochs = {{1}, {2}, {2.5}, {0.8}, {2.4}, {0.9}, {2.45}, {0.85}, {3.0}, {0.5}, {1e5}, {77}};
    return info;
}

class CheckpointFile : public ::testing::Test {
  protected:
    [[nodiscard]] std::vector<TensorView> tensors() {
        return {{"/model/01_dense/weight", {2, 3}, weight_}, {"/model/01_dense/bias", {2}, bias_}};
    }
    void write(const CheckpointInfo& info) { replace_file(file_, encode_checkpoint(info, tensors())); }

    support::TemporaryFolder folder_;
    std::filesystem::path file_ = folder_ / "step-00000003.h5";
    std::vector<float> weight_{1, 2, 3, 4, 5, 6};
    std::vector<float> bias_{-1, std::numeric_limits<float>::denorm_min()};
};

TEST_F(CheckpointFile, RoundTripIsExact) {
    const CheckpointInfo info = make_info();
    write(info);
    const Checkpoint checkpoint(file_);
    EXPECT_EQ(checkpoint.info().epoch, 1);
    EXPECT_EQ(checkpoint.info().step, 3);
    EXPECT_EQ(checkpoint.info().seed, 42U);
    EXPECT_EQ(checkpoint.info().logical_shards, 8);
    EXPECT_EQ(checkpoint.info().config, info.config);
    EXPECT_EQ(checkpoint.info().dataset, "MNIST");
    EXPECT_EQ(checkpoint.info().sample_shape, (std::vector<std::size_t>{28, 28}));
    EXPECT_EQ(checkpoint.info().rounding, "fused multiply-add");
    EXPECT_EQ(checkpoint.info().record.step_cost, info.record.step_cost);
    EXPECT_EQ(checkpoint.info().record.epochs.test_accuracy, info.record.epochs.test_accuracy);

    const std::vector<float> weight = weight_;
    const std::vector<float> bias = bias_;
    weight_.assign(6, 0);
    bias_.assign(2, 0);
    checkpoint.read(tensors());
    EXPECT_EQ(weight_, weight);
    EXPECT_EQ(bias_, bias);
}

TEST_F(CheckpointFile, KeepsEverySeed) {
    CheckpointInfo info = make_info();
    info.seed = std::numeric_limits<std::uint64_t>::max() - 1;
    write(info);
    EXPECT_EQ(Checkpoint(file_).info().seed, info.seed);
}

TEST_F(CheckpointFile, DoesNotDependOnRanks) {
    write(make_info());
    const Hdf5Image image(read_file(file_), "file.h5");
    EXPECT_TRUE(error_of([&] { (void)image.integer("ranks"); }));
    EXPECT_FALSE(image.has("/ranks/compute_seconds"));
}

TEST_F(CheckpointFile, RefusesTensorsThatDoNotFit) {
    write(make_info());
    const Checkpoint checkpoint(file_);
    const auto expect_misfit = [&](const TensorView& tensor, std::string_view part) {
        const auto error = error_of([&] { checkpoint.read(std::vector<TensorView>{tensor}); });
        ASSERT_TRUE(error) << part;
        EXPECT_EQ(error->code(), core::ExitCode::bad_checkpoint);
        EXPECT_NE(std::string_view(error->what()).find(part), std::string_view::npos) << error->what();
        EXPECT_TRUE(std::string_view(error->what()).starts_with(file_.string())) << error->what();
    };
    expect_misfit({"/model/01_dense/weight", {3, 2}, weight_}, "2 x 3, expected 3 x 2");
    expect_misfit({"/model/01_dense/weight", {6}, weight_}, "2 x 3, expected 6");
    expect_misfit({"/model/02_dense/weight", {2, 3}, weight_}, "/model/02_dense/weight");
    expect_misfit({"/optimizer/momentum/01_dense/bias", {2}, bias_}, "/optimizer/momentum/01_dense/bias");
    // A valid checkpoint that does not match is not damaged: a run must not resume from an older one because of it.
    EXPECT_FALSE(error_of<DamagedFile>([&] {
        EXPECT_TRUE(error_of([&] {
            checkpoint.read(std::vector<TensorView>{{"/model/01_dense/weight", {6}, weight_}});
        }));
    }));
}

TEST_F(CheckpointFile, WhoseCountsContradictItsRecordIsRefused) {
    const std::vector<std::function<void(CheckpointInfo&)>> contradictions{
        [](CheckpointInfo& info) { info.epoch = 2; },
        [](CheckpointInfo& info) { info.epoch = -1; },
        [](CheckpointInfo& info) { info.step = 4; },
        [](CheckpointInfo& info) { info.step = -3; },
        [](CheckpointInfo& info) { info.record.epochs.epoch = {0}; },
        [](CheckpointInfo& info) { info.record.epochs.epoch = {1'000'000}; },
        [](CheckpointInfo& info) {
            info.record.step_cost.clear();
            info.record.step_accuracy.clear();
        }};
    for (const auto& contradict : contradictions) {
        CheckpointInfo info = make_info();
        contradict(info);
        write(info);
        EXPECT_TRUE(error_of<DamagedFile>([&] { const Checkpoint checkpoint(file_); }));
    }
}

TEST_F(CheckpointFile, WithoutASensibleSampleShapeIsRefused) {
    constexpr std::size_t large = std::size_t{1} << 32;
    for (const std::vector<std::size_t>& shape : {std::vector<std::size_t>{}, {0}, {28, 0}, {large, large}}) {
        CheckpointInfo info = make_info();
        info.sample_shape = shape;
        write(info);
        EXPECT_TRUE(error_of<DamagedFile>([&] { const Checkpoint checkpoint(file_); }));
    }
}

TEST_F(CheckpointFile, DamagedIsDistinguishedFromUnreadable) {
    write(make_info());
    std::string bytes = support::read_text(file_);
    bytes[bytes.find("/model")] ^= 1;
    support::write_file(file_, bytes);
    const auto damage = error_of<DamagedFile>([&] { const Checkpoint checkpoint(file_); });
    ASSERT_TRUE(damage);
    EXPECT_NE(std::string_view(damage->what()).find(file_.string()), std::string_view::npos);
    support::write_file(file_, "");
    EXPECT_TRUE(error_of<DamagedFile>([&] { const Checkpoint checkpoint(file_); }));
    for (const auto& unreadable : {folder_ / "absent.h5", folder_.path()}) {
        const auto error = error_of<UnreadableFile>([&] { const Checkpoint checkpoint(unreadable); });
        ASSERT_TRUE(error) << unreadable;
        EXPECT_EQ(error->code(), core::ExitCode::bad_checkpoint);
    }
}

TEST_F(CheckpointFile, OfAnotherFormatVersionIsRefused) {
    const auto bytes = to_hdf5({}, {{"format_version", std::int64_t{999}}});
    replace_file(file_, bytes);
    const auto error = error_of([&] { const Checkpoint checkpoint(file_); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_checkpoint);
    EXPECT_NE(std::string_view(error->what()).find("999"), std::string_view::npos) << error->what();
}

class CheckpointFolderTest : public ::testing::Test {
  protected:
    void make(const std::vector<std::int64_t>& steps) {
        for (const std::int64_t step : steps) {
            support::write_file(checkpoints_.file(step), "x");
        }
    }
    using Steps = std::vector<std::int64_t>;

    support::TemporaryFolder folder_;
    CheckpointFolder checkpoints_{folder_.path()};
};

TEST_F(CheckpointFolderTest, NamesFilesByTheirStep) {
    EXPECT_EQ(checkpoints_.file(1875), folder_ / "step-00001875.h5");
    EXPECT_EQ(checkpoints_.file(123'456'789'012), folder_ / "step-123456789012.h5");
}

TEST_F(CheckpointFolderTest, ListsItsStepsNewestFirst) {
    EXPECT_TRUE(checkpoints_.steps().empty());
    EXPECT_TRUE(CheckpointFolder(folder_ / "absent").steps().empty());
    make({5, 123'456'789, 0, 40});
    EXPECT_EQ(checkpoints_.steps(), (Steps{123'456'789, 40, 5, 0}));
}

TEST_F(CheckpointFolderTest, IgnoresOtherFiles) {
    make({5});
    for (const char* name : {"step-00000006.h5.tmp", "step-.h5", "step--0000007.h5", "step-00000008",
                             "step-0000000x.h5", "log.h5", "step-7.h5", "step-000000009.h5"}) {
        support::write_file(folder_ / name, "x");
    }
    EXPECT_EQ(checkpoints_.steps(), Steps{5});
}

TEST_F(CheckpointFolderTest, PrunesTheOldest) {
    make({1, 2, 3, 4, 5});
    checkpoints_.prune(3);
    EXPECT_EQ(checkpoints_.steps(), (Steps{5, 4, 3}));
    checkpoints_.prune(3);
    EXPECT_EQ(checkpoints_.steps(), (Steps{5, 4, 3}));
    checkpoints_.prune(1);
    EXPECT_EQ(checkpoints_.steps(), Steps{5});
}

TEST_F(CheckpointFolderTest, RenamesDamagedCheckpointsToFreeNames) {
    make({1, 2, 3});
    for (const char* name : {"step-00000003.h5.damaged", "step-00000003.h5.damaged-2"}) {
        EXPECT_EQ(CheckpointFolder::name_if_damaged(checkpoints_.file(3)), folder_ / name);
        std::filesystem::rename(checkpoints_.file(3), CheckpointFolder::name_if_damaged(checkpoints_.file(3)));
        make({3});
    }
    EXPECT_EQ(checkpoints_.steps(), (Steps{3, 2, 1}));
    checkpoints_.prune(1);
    EXPECT_EQ(folder_.names(),
              (std::vector<std::string>{"step-00000003.h5", "step-00000003.h5.damaged", "step-00000003.h5.damaged-2"}));
}

TEST_F(CheckpointFolderTest, RemovesItsTemporaryFilesAndNothingElse) {
    make({1});
    const std::vector<std::string> others{"a.tmp",
                                          "log.h5.tmp",
                                          "step-1.h5.tmp",
                                          "step-00000001.tmp",
                                          "step-00000002.h5.tmp.tmp",
                                          "step-0000000x.h5.tmp"};
    for (const std::string& name : others) {
        support::write_file(folder_ / name, "x");
    }
    auto names = folder_.names();
    for (const std::int64_t step : {1, 2, 123'456'789}) {
        support::write_file(temporary_of(checkpoints_.file(step)), "half");
    }
    checkpoints_.sweep();
    EXPECT_EQ(folder_.names(), names);
    CheckpointFolder(folder_ / "absent").sweep();
}

TEST_F(CheckpointFolderTest, PruningTouchesNothingElse) {
    make({1, 2});
    support::write_file(folder_ / "notes.txt", "x");
    checkpoints_.prune(1);
    EXPECT_EQ(folder_.names(), (std::vector<std::string>{"notes.txt", "step-00000002.h5"}));
}

} // namespace
} // namespace dtrain::io
