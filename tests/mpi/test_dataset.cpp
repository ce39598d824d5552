#include "dtrain/data/dataset.hpp"
#include "dtrain/mpi/communicator.hpp"

#include "support/errors.hpp"
#include "support/gzip.hpp"
#include "support/idx_files.hpp"
#include "support/shared_folder.hpp"
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::data {
namespace {

using support::error_of;
using support::idx;

constexpr const char* train_images = "train-images-idx3-ubyte";
constexpr const char* train_labels = "train-labels-idx1-ubyte";
constexpr const char* test_images = "t10k-images-idx3-ubyte";

class LoadDataset : public ::testing::Test {
  protected:
    void SetUp() override {
        on_rank_0([&] { support::write_digits(folder_.path(), 53, 17); });
        for (int rank = 0; rank < world_.size(); ++rank) {
            shards_of_rank_.push_back(core::partition(shards, world_.size(), rank));
        }
    }
    void on_rank_0(const std::function<void()>& action) {
        if (world_.is_root()) {
            action();
        }
        world_.barrier();
    }
    [[nodiscard]] Dataset load(Limits limits = {}, int classes = 4) {
        return load_dataset(folder_.path(), limits, classes, shards, shards_of_rank_, world_);
    }
    void expect_all_refuse(core::ExitCode code, std::string_view part, Limits limits = {}, int classes = 4) {
        const auto error = error_of<mpi::AgreedError>([&] { (void)load(limits, classes); });
        ASSERT_TRUE(error) << part;
        EXPECT_EQ(error->code(), code) << error->what();
        EXPECT_NE(std::string_view(error->what()).find(part), std::string_view::npos) << error->what();
        world_.barrier(); // nobody is left behind in a message that no one sends
    }
    void expect_split(const Split& split, const support::Digits& digits, std::int64_t total) {
        EXPECT_EQ(split.total, total);
        EXPECT_EQ(split.sample_shape, (std::vector<std::size_t>{8, 8}));
        EXPECT_EQ(split.sample_size, 64U);
        const core::Range expected =
            samples_of_shards(total, shards, shards_of_rank_[static_cast<std::size_t>(world_.rank())]);
        EXPECT_EQ(split.local, expected);
        const auto begin = static_cast<std::size_t>(expected.begin);
        const auto count = static_cast<std::size_t>(expected.size());
        EXPECT_EQ(std::string(split.labels.values().begin(), split.labels.values().end()),
                  digits.labels.substr(begin, count));
        EXPECT_EQ(support::characters(split.elements.values()), digits.pixels.substr(begin * 64, count * 64));
    }

    static constexpr std::int64_t shards = 9;
    mpi::Communicator world_ = mpi::Communicator::world();
    support::SharedFolder folder_{world_};
    std::vector<core::Range> shards_of_rank_;
};

TEST_F(LoadDataset, HandsEachRankTheSamplesOfItsShards) {
    const Dataset dataset = load();
    expect_split(dataset.train, support::make_digits(53, 1), 53);
    expect_split(dataset.test, support::make_digits(17, 2), 17);
}

TEST_F(LoadDataset, TakesNoMoreThanTheLimits) {
    const Dataset dataset = load({30, 5}); // fewer test samples than shards: some ranks may have none
    expect_split(dataset.train, support::make_digits(53, 1), 30);
    expect_split(dataset.test, support::make_digits(17, 2), 5);
}

TEST_F(LoadDataset, NamesTheDataWhateverTheLimits) {
    const std::string name = load().name;
    EXPECT_NE(name.find("unknown IDX data"), std::string::npos) << name;
    EXPECT_EQ(load({10, 0}).name, name);
    on_rank_0([&] { support::write_digits(folder_.path(), 52, 17); });
    EXPECT_NE(load().name, name);
}

TEST_F(LoadDataset, SplitsShardsOfUnequalRanks) {
    shards_of_rank_.clear();
    for (int rank = 0; rank < world_.size(); ++rank) { // the last rank has all but one shard for each of the others
        shards_of_rank_.push_back({rank, rank + 1 == world_.size() ? shards : rank + 1});
    }
    expect_split(load().train, support::make_digits(53, 1), 53);
}

TEST_F(LoadDataset, HandsOutWhatTakesSeveralMessages) {
    constexpr std::uint32_t side = 1500; // 2.25 MB a sample
    std::string pixels(std::size_t{side} * side * 9, '\0');
    for (std::size_t i = 0; i < pixels.size(); ++i) {
        pixels[i] = static_cast<char>(i * 2654435761U >> 11);
    }
    on_rank_0([&] {
        support::write_file(folder_ / train_images, idx({9, side, side}, pixels));
        support::write_file(folder_ / train_labels, idx({9}, std::string(9, '\1')));
        support::write_file(folder_ / test_images, idx({1, side, side}, pixels.substr(0, std::size_t{side} * side)));
        support::write_file(folder_ / test_labels, idx({1}, std::string(1, '\2')));
    });
    const Dataset dataset = load();
    const auto begin = static_cast<std::size_t>(dataset.train.local.begin) * side * side;
    const std::string_view expected = std::string_view(pixels).substr(begin, dataset.train.elements.size());
    EXPECT_EQ(dataset.train.elements.size(), static_cast<std::size_t>(dataset.train.local.size()) * side * side);
    EXPECT_TRUE(support::characters(dataset.train.elements.values()) == expected);
}

// 3.2 MB a sample, of which a rank has several: messages end in the middle of one.
TEST_F(LoadDataset, HandsOutSequencesOfFloats) {
    constexpr std::uint32_t times = 500, features = 1600;
    constexpr std::size_t sample_size = std::size_t{times} * features;
    std::vector<float> values(sample_size * 9);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(i * 2654435761U >> 8 & 0xffffff) - 0x1p20F;
    }
    const auto write = [&](const char* name) {
        support::write_file(folder_ / name, idx({9, times, features}, support::big_endian(values), 0x0d));
    };
    on_rank_0([&] {
        std::filesystem::remove(folder_ / train_images);
        std::filesystem::remove(folder_ / test_images);
        write("train-images-idx3-float");
        write("t10k-images-idx3-float");
        support::write_file(folder_ / train_labels, idx({9}, std::string(9, '\1')));
        support::write_file(folder_ / test_labels, idx({9}, std::string(9, '\2')));
    });
    const Dataset dataset = load({8, 0});
    EXPECT_EQ(dataset.train.sample_shape, (std::vector<std::size_t>{times, features}));
    std::vector<float> sample(sample_size);
    for (const Split* split : {&dataset.train, &dataset.test}) {
        for (std::int64_t n = 0; n < split->local.size(); ++n) {
            split->fetch(n, sample);
            EXPECT_TRUE(std::equal(sample.begin(), sample.end(),
                                   values.begin() + (split->local.begin + n) * std::int64_t{sample_size}));
        }
    }
    EXPECT_EQ(load().name, dataset.name); // of the whole file, whatever part is used

    values[sample_size * 8 + 7] = std::numeric_limits<float>::infinity();
    on_rank_0([&] { write("train-images-idx3-float"); });
    expect_all_refuse(core::ExitCode::bad_data, "sample 8 holds a value that is not finite");
    expect_all_refuse(core::ExitCode::bad_data, "sample 8 holds a value that is not finite", {2, 0});
}

// Refusing is up to whoever knows the config; here a limit means "at the most".
TEST_F(LoadDataset, TakesAllWhereALimitExceedsTheData) {
    const Dataset all = load();
    const Dataset limited = load({all.train.total + 1, all.test.total + 1});
    EXPECT_EQ(limited.train.total, all.train.total);
    EXPECT_EQ(limited.test.total, all.test.total);
}

TEST_F(LoadDataset, RefusesLabelsBeyondTheClasses) {
    expect_all_refuse(core::ExitCode::bad_data, "network tells 3 classes apart", {}, 3);
}

TEST_F(LoadDataset, RefusesMissingFiles) {
    on_rank_0([&] { std::filesystem::remove(folder_ / test_labels); });
    expect_all_refuse(core::ExitCode::bad_data, test_labels);
}

TEST_F(LoadDataset, RefusesTruncatedFilesOnAllRanksAlike) {
    const std::string whole = support::make_digits(53, 1).images_file();
    for (std::size_t length = 17; length < whole.size(); length += 411) {
        on_rank_0([&] { support::write_file(folder_ / train_images, whole.substr(0, length)); });
        expect_all_refuse(core::ExitCode::bad_data, "truncated");
    }
    on_rank_0([&] { support::write_file(folder_ / train_images, whole.substr(0, whole.size() - 1)); });
    expect_all_refuse(core::ExitCode::bad_data, "truncated", {10, 0});
    on_rank_0([&] { support::write_file(folder_ / train_images, whole + "x"); });
    expect_all_refuse(core::ExitCode::bad_data, "more data");
}

// What is wrong with a compressed file shows only when samples are being handed out: in those of each rank in turn.
TEST_F(LoadDataset, RefusesCompressedFilesThatBreakOffOnAllRanksAlike) {
    const std::string whole = support::gzip(support::make_digits(53, 1).images_file());
    on_rank_0([&] { std::filesystem::remove(folder_ / train_images); });
    for (std::size_t length = 100; length < whole.size(); length += 211) {
        on_rank_0([&] { support::write_file(folder_ / (std::string(train_images) + ".gz"), whole.substr(0, length)); });
        expect_all_refuse(core::ExitCode::bad_data, train_images);
    }
    on_rank_0([&] { support::write_file(folder_ / (std::string(train_images) + ".gz"), whole); });
    expect_split(load().train, support::make_digits(53, 1), 53);
}

TEST_F(LoadDataset, RefusesTestSamplesOfAnotherShape) {
    on_rank_0([&] {
        support::write_file(folder_ / test_images, idx({2, 4}, "abcdefgh"));
        support::write_file(folder_ / test_labels, idx({2}, std::string("\0\1", 2)));
    });
    expect_all_refuse(core::ExitCode::bad_data, "8 x 8");
}

// A header may announce terabytes; nothing may be allocated for them on its word alone.
TEST_F(LoadDataset, RefusesHugeClaims) {
    const support::Digits digits = support::make_digits(53, 1);
    on_rank_0([&] {
        support::write_file(folder_ / train_images, idx({digits.samples, 1U << 20, 1U << 20}, digits.pixels));
    });
    expect_all_refuse(core::ExitCode::bad_data, train_images);
}

} // namespace
} // namespace dtrain::data
