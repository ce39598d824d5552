#include "dtrain/data/dataset.hpp"
#include "dtrain/data/source.hpp"

#include "support/errors.hpp"
#include "support/gzip.hpp"
#include "support/idx_files.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dtrain::data {
namespace {

using support::error_of;

constexpr std::string_view train_images = "train-images-idx3-ubyte";

TEST(Source, IsMadeByName) {
    EXPECT_EQ(source_names(), (std::vector<std::string>{"idx", "hdf5", "synthetic"}));
    for (const std::string& name : source_names()) {
        EXPECT_EQ(make_source(name, {"some/folder"})->settings().directory, "some/folder");
    }
    EXPECT_THROW((void)make_source("IDX", {}), std::out_of_range);
}

class IdxSource : public ::testing::Test {
  protected:
    IdxSource() { support::write_digits(folder_.path(), 23, 7); }
    [[nodiscard]] std::unique_ptr<Source> source(PerSet<std::int64_t> limits = {}) const {
        return make_source("idx", {folder_.path(), {}, limits});
    }
    void expect_bad(Set set, std::string_view problem) const {
        const auto error = error_of([&] { (void)source()->open(set); });
        ASSERT_TRUE(error) << problem;
        EXPECT_EQ(error->code(), core::ExitCode::bad_data);
        EXPECT_NE(std::string_view(error->what()).find(problem), std::string_view::npos) << error->what();
    }

    support::TemporaryFolder folder_;
    const support::Digits train_ = support::make_digits(23, 1);
    const support::Digits test_ = support::make_digits(7, 2);
};

TEST_F(IdxSource, ReturnsTheHeaders) {
    for (const Set set : sets) {
        const auto reader = source({5, 5})->open(set);
        EXPECT_EQ(reader->header().samples, set == Set::train ? 23 : 7); // limits do not change the header
        EXPECT_EQ(reader->header().sample_shape, (std::vector<std::size_t>{8, 8}));
        EXPECT_EQ(reader->header().sample_bytes(), 64U);
        EXPECT_EQ(reader->header().element, Element::ubyte);
        EXPECT_TRUE(reader->header().labelled);
    }
    EXPECT_FALSE(source()->every_rank_reads());
}

TEST_F(IdxSource, ReadsAscendingRangesWithGaps) {
    const std::string image_file = train_.images_file();
    for (const bool compressed : {false, true}) {
        if (compressed) {
            std::filesystem::remove(folder_ / train_images);
            support::write_file(folder_ / (std::string(train_images) + ".gz"), support::gzip(image_file));
        }
        const auto reader = source()->open(Set::train);
        for (const core::Range range : {core::Range{2, 5}, {5, 5}, {5, 6}, {19, 22}}) {
            const Split split = allocate_split(reader->header(), range);
            reader->read(range, split.elements.values(), split.labels.values());
            const auto begin = static_cast<std::size_t>(range.begin);
            const auto count = static_cast<std::size_t>(range.size());
            EXPECT_EQ(support::characters(split.elements.values()), train_.pixels.substr(begin * 64, count * 64));
            EXPECT_EQ(std::string(split.labels.values().begin(), split.labels.values().end()),
                      train_.labels.substr(begin, count));
        }
        EXPECT_EQ(reader->finish({22, 23}), source()->open(Set::train)->finish({0, 23})); // of the complete file
    }
}

TEST_F(IdxSource, ValidatesPartsThatAreNotRead) {
    support::write_file(folder_ / train_images, train_.images_file() + "x");
    const auto error = error_of([&] { (void)source()->open(Set::train)->finish({0, 23}); });
    ASSERT_TRUE(error);
    EXPECT_NE(std::string_view(error->what()).find("more data"), std::string_view::npos) << error->what();
    EXPECT_TRUE(error_of([&] { (void)load_set(*source({2, 0}), Set::train, 4); }));
}

TEST_F(IdxSource, NamesDataByTheirHashes) {
    EXPECT_EQ(source()->name({1, 0x2a}), "unknown IDX data (hash 0000000000000001-000000000000002a)");
    EXPECT_EQ(source()->name({0x7213478eab378a79, 0x7438a49d69dd7e78}), "MNIST");
    const std::uint64_t hash = source()->open(Set::test)->finish({0, 7});
    std::string labels = test_.labels;
    labels[6] = static_cast<char>(labels[6] + 1);
    support::write_file(folder_ / "t10k-labels-idx1-ubyte", support::idx({7}, labels));
    EXPECT_NE(source()->open(Set::test)->finish({0, 7}), hash);
}

TEST_F(IdxSource, OpensOneSetWithoutTheOther) {
    std::filesystem::remove(folder_ / train_images);
    EXPECT_EQ(load_set(*source(), Set::test, 4).total, 7);
    expect_bad(Set::train, train_images);
}

TEST_F(IdxSource, RefusesBadFilesWhenTheyAreOpened) {
    support::write_file(folder_ / train_images, support::idx({23}, train_.labels));
    expect_bad(Set::train, "the file has one dimension, like labels; samples need at least two");
    support::write_file(folder_ / "t10k-labels-idx1-ubyte", support::idx({6}, test_.labels.substr(0, 6)));
    expect_bad(Set::test, "the file has 6 labels, but there are 7 samples");
}

TEST_F(IdxSource, ReportsThatImagesAndLabelsAreSwapped) {
    const auto images = folder_ / train_images;
    const auto labels = folder_ / "train-labels-idx1-ubyte";
    std::filesystem::rename(images, folder_ / "aside");
    std::filesystem::rename(labels, images);
    std::filesystem::rename(folder_ / "aside", labels);
    expect_bad(Set::train, images.string() + ": this file contains labels, and " + labels.string() +
                               " contains samples. Swap the two files");
    EXPECT_TRUE(error_of([&] { (void)load_split(labels, {}, 4); }) == std::nullopt);
    support::write_file(images, train_.images_file());
    expect_bad(Set::train,
               labels.string() +
                   ": expected labels (1 dimension of unsigned bytes), but dimensions = 3, elements = unsigned bytes");
}

// A checkpoint identifies its data by their contents, so a run resumes if files are named in another way.
TEST_F(IdxSource, HasTheSameHashInEverySpelling) {
    const std::uint64_t hash = source()->open(Set::train)->finish({0, 23});
    std::filesystem::create_directories(folder_ / "MNIST/raw");
    for (const auto& [name, spelling] :
         {std::pair<std::string_view, const char*>(train_images, "MNIST/raw/train-images.idx3-ubyte"),
          {"train-labels-idx1-ubyte", "MNIST/raw/train-labels.idx1-ubyte"},
          {"t10k-images-idx3-ubyte", "aside-1"},
          {"t10k-labels-idx1-ubyte", "aside-2"}}) {
        std::filesystem::rename(folder_ / name, folder_ / spelling);
    }
    EXPECT_EQ(source()->open(Set::train)->finish({0, 23}), hash);
}

TEST_F(IdxSource, NamesTheFirstLabelBeyondTheClasses) {
    const auto error = error_of([&] { source()->open(Set::train)->require_classes(3, {0, 23}); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_data);
    EXPECT_EQ(error->what(), (folder_ / "train-labels-idx1-ubyte").string() + ": sample " +
                                 std::to_string(train_.labels.find('\3')) +
                                 " has label 3, but the network has only 3 classes (0 to 2)");
}

// For an evaluation, a limit is a maximum. Training needs exactly as many samples.
TEST_F(IdxSource, LoadsNoMoreThanTheLimit) {
    const Split split = load_set(*source({9, 8}), Set::train, 4);
    EXPECT_EQ(split.total, 9);
    EXPECT_EQ(split.local, (core::Range{0, 9}));
    EXPECT_EQ(support::characters(split.elements.values()), train_.pixels.substr(0, std::size_t{9} * 64));
    EXPECT_EQ(std::string(split.labels.values().begin(), split.labels.values().end()), train_.labels.substr(0, 9));
    EXPECT_EQ(load_set(*source({9, 8}), Set::test, 4).total, 7);
}

TEST(RequireRoom, RefusesMoreThanFitsIntoMemory) {
    SetHeader header{5, {3, 2}, Element::float32}; // 24 bytes and a label
    EXPECT_EQ(require_room({}, Set::train, header, 125), 0);
    EXPECT_EQ(require_room({}, Set::train, header, 1000), 875);
    for (const Set set : sets) {
        const auto error = error_of([&] { require_room({}, set, header, 124); });
        ASSERT_TRUE(error);
        EXPECT_EQ(error->code(), core::ExitCode::bad_config);
        EXPECT_EQ(error->what(),
                  std::string(limit_key(set)) + ": expected at most 4, because more samples do not fit into memory");
    }
    EXPECT_TRUE(error_of([&] { require_room({}, Set::test, header, -1); }));
    header.samples = std::int64_t{1} << 32;
    EXPECT_TRUE(error_of([&] { require_room({}, Set::train, header, 1e18); }));
}

} // namespace
} // namespace dtrain::data
