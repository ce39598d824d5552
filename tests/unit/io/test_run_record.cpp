#include "dtrain/io/run_record.hpp"

#include "support/errors.hpp"
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace dtrain::io {
namespace {

using support::error_of;

RunRecord make_record() {
    RunRecord record;
    record.step_cost = {3.5F, 3.25F, 3.0F, 2.5F};
    record.step_accuracy = {0.25F, 0.5F, 0.5F, 0.75F};
    record.epochs = {{1, 2},     {2, 4},       {3.4, 2.7}, {0.375, 0.625}, {3.3, 2.6}, {0.5, 0.75},
                     {3.2, 2.8}, {0.5, 0.625}, {3.0, 3.0}, {0.1, 0.2},     {1e4, 2e4}, {11, ~0ULL}};
    return record;
}

std::vector<std::byte> encode(const RunRecord& record) {
    std::vector<DatasetView> datasets;
    record.append_to(datasets);
    return to_hdf5(datasets, {});
}

TEST(RunRecord, IsTheSameAfterAFile) {
    RunRecord without_validation = make_record();
    without_validation.epochs.validation_cost.clear();
    without_validation.epochs.validation_accuracy.clear();
    for (const RunRecord& record : {make_record(), without_validation, RunRecord{}}) {
        const RunRecord read = RunRecord::from(Hdf5Image(encode(record), "file.h5"));
        EXPECT_EQ(read.step_cost, record.step_cost);
        EXPECT_EQ(read.step_accuracy, record.step_accuracy);
        EXPECT_EQ(read.epochs.epoch, record.epochs.epoch);
        EXPECT_EQ(read.epochs.step, record.epochs.step);
        EXPECT_EQ(read.epochs.train_cost, record.epochs.train_cost);
        EXPECT_EQ(read.epochs.train_accuracy, record.epochs.train_accuracy);
        EXPECT_EQ(read.epochs.test_cost, record.epochs.test_cost);
        EXPECT_EQ(read.epochs.test_accuracy, record.epochs.test_accuracy);
        EXPECT_EQ(read.epochs.validation_cost, record.epochs.validation_cost);
        EXPECT_EQ(read.epochs.validation_accuracy, record.epochs.validation_accuracy);
        EXPECT_EQ(read.epochs.learning_rate, record.epochs.learning_rate);
        EXPECT_EQ(read.epochs.seconds, record.epochs.seconds);
        EXPECT_EQ(read.epochs.samples_per_second, record.epochs.samples_per_second);
        EXPECT_EQ(read.epochs.fingerprint, record.epochs.fingerprint);
        EXPECT_EQ(read.epochs.size(), record.epochs.size());
    }
}

// Users' notebooks read these paths.
TEST(RunRecord, HasTheDocumentedColumns) {
    const Hdf5Image image(encode(make_record()), "file.h5");
    EXPECT_EQ(image.values<float>("/steps/cost").size(), 4U);
    EXPECT_EQ(image.values<float>("/steps/accuracy").size(), 4U);
    for (const char* name : {"/epochs/epoch", "/epochs/step"}) {
        EXPECT_EQ(image.values<std::int64_t>(name).size(), 2U);
    }
    for (const char* name : {"/epochs/train_cost", "/epochs/train_accuracy", "/epochs/test_cost",
                             "/epochs/test_accuracy", "/epochs/validation_cost", "/epochs/validation_accuracy",
                             "/epochs/learning_rate", "/epochs/seconds", "/epochs/samples_per_second"}) {
        EXPECT_EQ(image.values<double>(name).size(), 2U);
    }
}

TEST(RunRecord, CanBeCutToAnEarlierEpoch) {
    const RunRecord record = make_record().first(1, 2);
    EXPECT_EQ(record.step_cost, (std::vector<float>{3.5F, 3.25F}));
    EXPECT_EQ(record.step_accuracy.size(), 2U);
    EXPECT_EQ(record.epochs.size(), 1U);
    EXPECT_EQ(record.epochs.validation_accuracy, std::vector<double>{0.5});
    EXPECT_EQ(record.epochs.fingerprint, std::vector<std::uint64_t>{11});
}

TEST(RunRecord, WithColumnsOfDifferentLengthsIsRefused) {
    RunRecord record = make_record();
    record.epochs.test_cost.pop_back();
    EXPECT_TRUE(error_of([&] { (void)RunRecord::from(Hdf5Image(encode(record), "file.h5")); }));
    record = make_record();
    record.epochs.epoch.push_back(3);
    EXPECT_TRUE(error_of([&] { (void)RunRecord::from(Hdf5Image(encode(record), "file.h5")); }));
    record = make_record();
    record.step_accuracy.pop_back();
    EXPECT_TRUE(error_of([&] { (void)RunRecord::from(Hdf5Image(encode(record), "file.h5")); }));
}

TEST(RunRecord, WithAMissingColumnIsRefused) {
    const RunRecord record = make_record();
    std::vector<DatasetView> all;
    record.append_to(all);
    for (std::size_t missing = 0; missing < all.size(); ++missing) {
        std::vector<DatasetView> datasets = all;
        datasets.erase(datasets.begin() + static_cast<std::ptrdiff_t>(missing));
        const auto error =
            error_of<DamagedFile>([&] { (void)RunRecord::from(Hdf5Image(to_hdf5(datasets, {}), "file.h5")); });
        ASSERT_TRUE(error) << all[missing].path;
        EXPECT_NE(std::string(error->what()).find(all[missing].path), std::string::npos) << error->what();
    }
}

/// Times as text, so that comparisons include NaN.
std::string text(const std::vector<double>& values) {
    std::string all;
    for (const double value : values) {
        all += (std::isnan(value) ? "?" : std::to_string(static_cast<int>(value))) + " ";
    }
    return all;
}

void add(RankSeconds& seconds, const std::vector<PhaseSeconds>& ranks) {
    seconds.add_epoch(ranks);
}

TEST(RankSeconds, AreATableOfEpochsByRanks) {
    RankSeconds seconds;
    add(seconds, {{1, 3, 5, 7}, {2, 4, 6, 8}});
    add(seconds, {{9, 11, 13, 15}, {10, 12, 14, 16}});
    EXPECT_EQ(seconds.ranks, 2U);
    EXPECT_EQ(text(seconds.compute), "1 2 9 10 ");
    EXPECT_EQ(text(seconds.reduce), "3 4 11 12 ");
    EXPECT_EQ(text(seconds.wait), "5 6 13 14 ");
    EXPECT_EQ(text(seconds.data), "7 8 15 16 ");

    std::vector<DatasetView> datasets;
    seconds.append_to(datasets);
    const Hdf5Image image(to_hdf5(datasets, {}), "file.h5");
    EXPECT_EQ(image.shape("/ranks/compute_seconds"), (std::vector<std::size_t>{2, 2}));
    const RankSeconds read = RankSeconds::from(image);
    EXPECT_EQ(read.ranks, 2U);
    EXPECT_EQ(read.compute, seconds.compute);
    EXPECT_EQ(read.reduce, seconds.reduce);
    EXPECT_EQ(read.wait, seconds.wait);
    EXPECT_EQ(read.data, seconds.data);
}

TEST(RankSeconds, BecomeWiderWhenRanksAreAdded) {
    RankSeconds seconds;
    add(seconds, {{1, 1, 1, 10}});
    add(seconds, {{2, 2, 2, 20}, {3, 3, 3, 30}, {4, 4, 4, 40}});
    add(seconds, {{5, 5, 5, 50}, {6, 6, 6, 60}});
    EXPECT_EQ(seconds.ranks, 3U);
    EXPECT_EQ(text(seconds.compute), "1 ? ? 2 3 4 5 6 ? ");
    EXPECT_EQ(text(seconds.data), "10 ? ? 20 30 40 50 60 ? ");
}

TEST(RankSeconds, AreCutAndFilledToAnEpoch) {
    RankSeconds seconds;
    add(seconds, {{1, 1}, {2, 2}});
    add(seconds, {{3, 3}, {4, 4}});
    seconds.resize(1);
    EXPECT_EQ(text(seconds.compute), "1 2 ");
    seconds.resize(3);
    EXPECT_EQ(text(seconds.reduce), "1 2 ? ? ? ? ");
}

// A run resumed after its log was lost: the earlier epochs have a row each, with unknown times.
TEST(RankSeconds, OfUnknownEpochsKeepTheirRows) {
    RankSeconds seconds;
    seconds.resize(2);
    add(seconds, {{5}, {6}});
    EXPECT_EQ(text(seconds.compute), "? ? ? ? 5 6 ");
}

TEST(RankSeconds, OfNoEpochAreTheSameAfterAFile) {
    std::vector<DatasetView> datasets;
    const RankSeconds none;
    none.append_to(datasets);
    const RankSeconds read = RankSeconds::from(Hdf5Image(to_hdf5(datasets, {}), "file.h5"));
    EXPECT_EQ(read.ranks, 0U);
    EXPECT_TRUE(read.compute.empty());
}

// Otherwise a file without values could make a resumed run fill a table of any width.
TEST(RankSeconds, WithoutRowsHaveNoColumns) {
    RankSeconds seconds;
    seconds.ranks = 500;
    std::vector<DatasetView> datasets;
    seconds.append_to(datasets);
    EXPECT_EQ(RankSeconds::from(Hdf5Image(to_hdf5(datasets, {}), "file.h5")).ranks, 0U);
}

TEST(RankSeconds, OfAnotherShapeAreRefused) {
    const std::vector<double> values(6);
    const auto refused = [&](const std::vector<std::size_t>& first, const std::vector<std::size_t>& second) {
        std::vector<DatasetView> datasets;
        for (const auto& [path, shape] : {std::pair{"/ranks/compute_seconds", first},
                                          {"/ranks/reduce_seconds", first},
                                          {"/ranks/wait_seconds", second},
                                          {"/ranks/data_seconds", first}}) {
            std::size_t size = 1;
            for (const std::size_t dimension : shape) {
                size *= dimension;
            }
            datasets.push_back({path, shape, std::span(values).first(size)});
        }
        return error_of([&] { (void)RankSeconds::from(Hdf5Image(to_hdf5(datasets, {}), "file.h5")); }).has_value();
    };
    EXPECT_FALSE(refused({2, 3}, {2, 3}));
    EXPECT_FALSE(refused({0, 3}, {0, 3}));
    EXPECT_TRUE(refused({6}, {6}));
    EXPECT_TRUE(refused({2, 3}, {2, 2}));
}

} // namespace
} // namespace dtrain::io
