#include "dtrain/data/dataset_loader.hpp"
#include "dtrain/mpi/communicator.hpp"

#include "support/errors.hpp"
#include "support/gzip.hpp"
#include "support/hdf5_files.hpp"
#include "support/idx_files.hpp"
#include "support/shared_folder.hpp"
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace dtrain::data {
namespace {

using support::error_of;
using support::idx;

constexpr const char* train_images = "train-images-idx3-ubyte";
constexpr const char* train_labels = "train-labels-idx1-ubyte";
constexpr const char* test_images = "t10k-images-idx3-ubyte";
constexpr const char* test_labels = "t10k-labels-idx1-ubyte";

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
    [[nodiscard]] Dataset load(std::unique_ptr<const Source> source, std::size_t classes = 4) {
        DatasetLoader loader(std::move(source), world_);
        loader.require_classes(classes);
        return loader.load(shards, shards_of_rank_);
    }
    [[nodiscard]] Dataset load(PerSet<std::int64_t> limits = {}, std::size_t classes = 4) {
        return load(make_source("idx", {folder_.path(), {}, limits}), classes);
    }
    void expect_all_refuse(core::ExitCode code, std::string_view part, PerSet<std::int64_t> limits = {},
                           std::size_t classes = 4) {
        expect_all_refuse(code, part, [&] { (void)load(limits, classes); });
    }
    void expect_all_refuse(core::ExitCode code, std::string_view part, const std::function<void()>& action) {
        const auto error = error_of<mpi::AgreedError>(action);
        ASSERT_TRUE(error) << part;
        EXPECT_EQ(error->code(), code) << error->what();
        EXPECT_NE(std::string_view(error->what()).find(part), std::string_view::npos) << error->what();
        world_.barrier(); // no rank still waits for a message
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

TEST_F(LoadDataset, GivesEachRankTheSamplesOfItsShards) {
    const Dataset dataset = load();
    expect_split(dataset.train, support::make_digits(53, 1), 53);
    expect_split(dataset.test, support::make_digits(17, 2), 17);
}

TEST_F(LoadDataset, LoadsNoMoreThanTheLimits) {
    const Dataset dataset = load({30, 5}); // fewer test samples than shards: some ranks may have none
    expect_split(dataset.train, support::make_digits(53, 1), 30);
    expect_split(dataset.test, support::make_digits(17, 2), 5);
}

TEST_F(LoadDataset, NameDoesNotDependOnTheLimits) {
    const std::string name = load().name;
    EXPECT_NE(name.find("unknown IDX data"), std::string::npos) << name;
    EXPECT_EQ(load({10, 0}).name, name);
    on_rank_0([&] { support::write_digits(folder_.path(), 52, 17); });
    EXPECT_NE(load().name, name);
}

TEST_F(LoadDataset, DistributesUnequalNumbersOfShards) {
    shards_of_rank_.clear();
    for (int rank = 0; rank < world_.size(); ++rank) { // each rank has one shard, the last rank has the rest
        shards_of_rank_.push_back({rank, rank + 1 == world_.size() ? shards : rank + 1});
    }
    expect_split(load().train, support::make_digits(53, 1), 53);
}

TEST_F(LoadDataset, DistributesSamplesInSeveralMessages) {
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

// 3.2 MB a sample. A rank has several samples, so messages end in the middle of one.
TEST_F(LoadDataset, DistributesSequencesOfFloats) {
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
    EXPECT_EQ(load().name, dataset.name); // the name depends on the complete file, whichever part is used

    values[sample_size * 8 + 7] = std::numeric_limits<float>::infinity();
    on_rank_0([&] { write("train-images-idx3-float"); });
    expect_all_refuse(core::ExitCode::bad_data, "sample 8 has a value that is not finite");
    expect_all_refuse(core::ExitCode::bad_data, "sample 8 has a value that is not finite", {2, 0});
}

TEST_F(LoadDataset, HasTheSameHeadersOnAllRanks) {
    const DatasetLoader loader(make_source("idx", {folder_.path(), {}, {30, 0}}), world_);
    for (const Set set : sets) {
        EXPECT_EQ(loader.header(set).samples, set == Set::train ? 30 : 17);
        EXPECT_EQ(loader.header(set).sample_shape, (std::vector<std::size_t>{8, 8}));
        EXPECT_EQ(loader.header(set).element, Element::ubyte);
    }
}

// Each file is opened once and read once. So a pipe, which can be read only once, works too.
TEST_F(LoadDataset, ReadsThroughPipes) {
    std::vector<std::jthread> writers;
    on_rank_0([&] {
        for (const char* const name : {train_images, train_labels, test_images, test_labels}) {
            const std::string contents = support::read_text(folder_ / name);
            std::filesystem::remove(folder_ / name);
            ASSERT_EQ(mkfifo((folder_ / name).c_str(), 0600), 0);
            writers.emplace_back([contents, file = folder_ / name] { support::write_file(file, contents); });
        }
    });
    const Dataset dataset = load();
    expect_split(dataset.train, support::make_digits(53, 1), 53);
    expect_split(dataset.test, support::make_digits(17, 2), 17);
}

TEST_F(LoadDataset, LetsEachRankGenerateItsSamples) {
    const auto whole = make_source("synthetic", {.limits = {101, 20}});
    const Dataset dataset = load(make_source("synthetic", {.limits = {101, 20}}), 10);
    EXPECT_EQ(dataset.name, "synthetic digits");
    for (const auto& [split, set] : {std::pair{&dataset.train, Set::train}, {&dataset.test, Set::test}}) {
        const Split all = load_set(*whole, set, 10);
        EXPECT_EQ(split->total, all.total);
        EXPECT_EQ(split->local,
                  samples_of_shards(all.total, shards, shards_of_rank_[static_cast<std::size_t>(world_.rank())]));
        const auto first = static_cast<std::size_t>(split->local.begin);
        EXPECT_TRUE(std::ranges::equal(split->elements.values(),
                                       all.elements.values().subspan(first * 784, split->elements.size())));
        EXPECT_TRUE(
            std::ranges::equal(split->labels.values(), all.labels.values().subspan(first, split->labels.size())));
    }
}

TEST_F(LoadDataset, LetsEachRankReadItsSamplesOfHdf5) {
    const std::filesystem::path file = folder_ / "data.h5";
    for (const hsize_t chunk_rows : {0, 4}) {
        on_rank_0([&] { support::write_hdf5_digits(file, 53, 17, chunk_rows); });
        const auto source = [&](PerSet<std::int64_t> limits = {}, std::int64_t validation = 0) {
            return make_source("hdf5", {.file = file, .limits = limits, .validation = validation});
        };
        const Dataset dataset = load(source());
        expect_split(dataset.train, support::make_digits(53, 1), 53);
        expect_split(dataset.test, support::make_digits(17, 2), 17);
        // The name that one rank gives to the data that it reads alone. It is the name of the whole file.
        const std::string name =
            source()->name({source()->open(Set::train)->finish({0, 53}), source()->open(Set::test)->finish({0, 17})});
        EXPECT_EQ(dataset.name, name);
        const Dataset limited = load(source({30, 5}, 11));
        expect_split(limited.train, support::make_digits(53, 1), 19);
        expect_split(limited.test, support::make_digits(17, 2), 5);
        EXPECT_EQ(limited.validation.total, 11);
        const Dataset in_turns = load(make_source("hdf5", {.file = file, .readers = 1}));
        expect_split(in_turns.train, support::make_digits(53, 1), 53);
        EXPECT_EQ(in_turns.name, name);
        const Dataset of_idx =
            load(make_source("idx", {.directory = folder_.path(), .limits = {30, 5}, .validation = 11}));
        EXPECT_TRUE(std::ranges::equal(limited.validation.elements.values(), of_idx.validation.elements.values()));
        EXPECT_TRUE(std::ranges::equal(limited.validation.labels.values(), of_idx.validation.labels.values()));
        EXPECT_EQ(limited.name, name);
    }
}

TEST_F(LoadDataset, RefusesBadHdf5OnAllRanksAlike) {
    const std::filesystem::path file = folder_ / "data.h5";
    const auto refuse = [&](std::string_view part, PerSet<std::int64_t> limits = {}) {
        expect_all_refuse(core::ExitCode::bad_data, part,
                          [&] { (void)load(make_source("hdf5", {.file = file, .limits = limits})); });
    };
    refuse(file.string() + ": no such file");
    const support::Digits digits = support::make_digits(53, 1);
    // Two wrong labels or values: every rank reports the first.
    const auto write = [&](const std::vector<std::int64_t>& labels, const std::vector<float>& values) {
        on_rank_0([&] {
            support::write_hdf5_digits(file, 53, 17);
            support::Hdf5Writer writer(file);
            for (const char* const set : {"/train", "/test"}) {
                writer.write(set + std::string("/labels"), {53}, H5T_STD_I32LE, H5T_NATIVE_INT64, labels.data());
                writer.write(set + std::string("/samples"), {53, 2}, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values.data());
            }
        });
    };
    std::vector<std::int64_t> labels = support::integer_labels(digits);
    std::vector<float> values(std::size_t{53} * 2, 1.5F);
    labels[52] = 300;
    write(labels, values);
    refuse("sample 52 has label 300");
    refuse("sample 52 has label 300", {10, 10});
    labels[52] = labels[50] = 4;
    write(labels, values);
    refuse("/train/labels: sample 50 has label 4, but the network has only 4 classes (0 to 3)");
    labels = support::integer_labels(digits);
    values[2 * 51] = std::numeric_limits<float>::infinity();
    write(labels, values);
    refuse("/train/samples: sample 51 has a value that is not finite");
    refuse("/train/samples: sample 51 has a value that is not finite", {8, 8});
}

/// A file that becomes slow when too many ranks read it.
class Crowded final : public Source {
  public:
    /// The visit number `failing_visit` of this rank fails; 0: none.
    Crowded(int readers, int failing_visit, const mpi::Communicator& communicator, std::filesystem::path folder)
        : Source({.readers = readers}), failing_visit_(failing_visit), communicator_(communicator),
          folder_(std::move(folder)) {}
    [[nodiscard]] bool every_rank_reads() const noexcept override { return true; }
    [[nodiscard]] int readers_at_once() const noexcept override { return settings().readers; }
    [[nodiscard]] Origin origin() const override { return {"data.file", "crowded.h5"}; }
    [[nodiscard]] std::unique_ptr<SetReader> open(Set /*set*/) const override {
        visit();
        return std::make_unique<Reader>(*this);
    }
    [[nodiscard]] std::string name(const PerSet<std::uint64_t>& /*hashes*/) const override { return "crowded"; }
    /// The most ranks that this one has seen at once, itself included.
    [[nodiscard]] int crowd() const noexcept { return crowd_; }

  private:
    /// For a while, a file in the folder shows that this rank reads. Waits for others that may read now.
    void visit() const {
        const std::filesystem::path sign = folder_ / std::to_string(communicator_.rank());
        support::write_file(sign, "");
        const int allowed = std::min(readers_at_once(), communicator_.size());
        for (int look = 0; look < 3 || (look < 15 && crowd_ < allowed); ++look) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            const std::filesystem::directory_iterator signs(folder_);
            crowd_ = std::max(crowd_, static_cast<int>(std::distance(begin(signs), end(signs))));
        }
        std::filesystem::remove(sign);
        if (++visits_ == failing_visit_) {
            throw core::Error(core::ExitCode::bad_data, "crowded.h5: no more");
        }
    }

    class Reader final : public SetReader {
      public:
        explicit Reader(const Crowded& source) : source_(source) { header_ = {40, {2}}; }
        void require_classes(std::size_t /*classes*/, core::Range /*samples*/) const override { source_.visit(); }
        void read(core::Range /*samples*/, std::span<std::byte> /*elements*/,
                  std::span<std::uint8_t> /*labels*/) override {
            source_.visit();
        }
        std::uint64_t finish(core::Range /*rest*/) override {
            source_.visit();
            return 0;
        }

      private:
        const Crowded& source_;
    };
    int failing_visit_;
    const mpi::Communicator& communicator_;
    std::filesystem::path folder_;
    mutable int crowd_ = 0;
    mutable int visits_ = 0;
};

TEST_F(LoadDataset, LetsRanksReadInTurns) {
    const std::filesystem::path signs = folder_ / "signs";
    on_rank_0([&] { std::filesystem::create_directory(signs); });
    for (const int readers : {1, 2, 5}) {
        auto source = std::make_unique<Crowded>(readers, 0, world_, signs);
        const Crowded& crowded = *source;
        DatasetLoader loader(std::move(source), world_);
        loader.require_classes(4);
        EXPECT_EQ(loader.load(shards, shards_of_rank_).name, "crowded");
        EXPECT_LE(crowded.crowd(), readers);
        std::array<std::uint64_t, 1> full{crowded.crowd() >= std::min(readers, world_.size()) ? 1U : 0U};
        world_.sum(std::span(full));
        EXPECT_GT(full[0], 0U); // ranks did read at the same time
        for (const int rank : {0, world_.size() - 1}) {
            for (const int visit : {1, 3, 5, 8}) { // while it opens, checks labels, reads, finishes
                const int failing = world_.rank() == rank ? visit : 0;
                expect_all_refuse(core::ExitCode::bad_data, "crowded.h5: no more", [&] {
                    (void)load(std::make_unique<Crowded>(1 + readers / 2, failing, world_, signs));
                });
            }
        }
    }
}

/// A file that is longer on one rank, such as an old copy on another host.
class Unequal final : public Source {
  public:
    explicit Unequal(std::int64_t samples) : Source({}), samples_(samples) {}
    [[nodiscard]] bool every_rank_reads() const noexcept override { return true; }
    [[nodiscard]] Origin origin() const override { return {"data.file", "copy.h5"}; }
    [[nodiscard]] std::unique_ptr<SetReader> open(Set /*set*/) const override {
        return std::make_unique<Reader>(samples_);
    }
    [[nodiscard]] std::string name(const PerSet<std::uint64_t>& /*hashes*/) const override { return "unequal"; }

  private:
    class Reader final : public SetReader {
      public:
        explicit Reader(std::int64_t samples) { header_ = {samples, {2}}; }
        void require_classes(std::size_t /*classes*/, core::Range /*samples*/) const override {}
        void read(core::Range /*samples*/, std::span<std::byte> /*elements*/,
                  std::span<std::uint8_t> /*labels*/) override {}
        std::uint64_t finish(core::Range /*rest*/) override { return 0; }
    };
    std::int64_t samples_;
};

TEST_F(LoadDataset, RefusesRanksThatSeeOtherFiles) {
    const int last = world_.size() - 1;
    if (last > 0) {
        expect_all_refuse(core::ExitCode::bad_data, "copy.h5: rank " + std::to_string(last) + " finds",
                          [&] { (void)load(std::make_unique<Unequal>(world_.rank() == last ? 41 : 40)); });
    }
    EXPECT_EQ(load(std::make_unique<Unequal>(40)).name, "unequal");
}

TEST_F(LoadDataset, RefusesLimitsThatExceedTheData) {
    expect_all_refuse(core::ExitCode::bad_config,
                      "data.train_samples: expected at most 53, the number of samples in " + folder_.path().string(),
                      {54, 0});
    expect_all_refuse(core::ExitCode::bad_config,
                      "data.test_samples: expected at most 17, the number of samples in " + folder_.path().string(),
                      {53, 18});
    expect_split(load({53, 17}).test, support::make_digits(17, 2), 17);
}

TEST_F(LoadDataset, RefusesMoreThanFitsIntoMemory) {
    const auto draw = [&](PerSet<std::int64_t> limits) {
        expect_all_refuse(core::ExitCode::bad_config, "do not fit into memory",
                          [&] { (void)load(make_source("synthetic", {.limits = limits}), 10); });
    };
    draw({std::int64_t{1} << 40, 1});
    draw({1, std::int64_t{1} << 40});
}

TEST_F(LoadDataset, RefusesLabelsBeyondTheClasses) {
    expect_all_refuse(core::ExitCode::bad_data, "network has only 3 classes", {}, 3);
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

// An error in a compressed file shows while samples are distributed: in the samples of each rank in turn.
TEST_F(LoadDataset, RefusesTruncatedCompressedFilesOnAllRanksAlike) {
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

/// A source that runs out of memory on one rank, at one of the places where it can.
class Exhausted final : public Source {
  public:
    enum class Place { open, classes, first_read, later_read, finish, name };
    Exhausted(bool every_rank_reads, bool fails, Place place)
        : Source({}), every_rank_reads_(every_rank_reads), fails_(fails), place_(place) {}

    [[nodiscard]] bool every_rank_reads() const noexcept override { return every_rank_reads_; }
    [[nodiscard]] Origin origin() const override { return {"data.source", "exhausted"}; }
    [[nodiscard]] std::unique_ptr<SetReader> open(Set /*set*/) const override {
        reach(Place::open);
        return std::make_unique<Reader>(*this);
    }
    [[nodiscard]] std::string name(const PerSet<std::uint64_t>& /*hashes*/) const override {
        reach(Place::name);
        return "nothing";
    }

  private:
    class Reader final : public SetReader {
      public:
        explicit Reader(const Exhausted& source) : source_(source) { header_ = {40, {2}}; }
        void require_classes(std::size_t /*classes*/, core::Range /*samples*/) const override {
            source_.reach(Place::classes);
        }
        void read(core::Range samples, std::span<std::byte> /*elements*/, std::span<std::uint8_t> /*labels*/) override {
            source_.reach(samples.begin == 0 ? Place::first_read : Place::later_read);
        }
        std::uint64_t finish(core::Range /*rest*/) override {
            source_.reach(Place::finish);
            return 0;
        }

      private:
        const Exhausted& source_;
    };
    void reach(Place place) const {
        if (fails_ && place == place_) {
            throw std::bad_alloc();
        }
    }

    bool every_rank_reads_;
    bool fails_;
    Place place_;
};

TEST_F(LoadDataset, RunsOutOfMemoryOnAllRanksAlike) {
    using Place = Exhausted::Place;
    const auto refuse = [&](bool every_rank_reads, int rank, Place place) {
        expect_all_refuse(core::ExitCode::bad_config, "out of memory", [&] {
            (void)load(std::make_unique<Exhausted>(every_rank_reads, world_.rank() == rank, place));
        });
    };
    for (const Place place : {Place::open, Place::classes, Place::first_read, Place::finish, Place::name}) {
        refuse(false, 0, place);
        refuse(true, 0, place);
    }
    for (const Place place : {Place::open, Place::classes, Place::finish, Place::name}) {
        refuse(true, world_.size() - 1, place);
    }
    if (world_.size() > 1) {
        refuse(false, 0, Place::later_read); // while others wait for their samples
        refuse(true, 1, Place::later_read);
    }
    EXPECT_EQ(load(std::make_unique<Exhausted>(false, false, Place::open)).name, "nothing");
}

// A header may announce terabytes. The loader must not allocate memory on its word alone.
TEST_F(LoadDataset, RefusesHugeClaims) {
    const support::Digits digits = support::make_digits(53, 1);
    on_rank_0([&] {
        support::write_file(folder_ / train_images, idx({digits.samples, 1U << 20, 1U << 20}, digits.pixels));
    });
    expect_all_refuse(core::ExitCode::bad_data, train_images);
}

} // namespace
} // namespace dtrain::data
