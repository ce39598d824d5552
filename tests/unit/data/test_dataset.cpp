#include "dtrain/data/dataset.hpp"

#include "support/errors.hpp"
#include "support/idx_files.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::data {
namespace {

using support::error_of;
using support::idx;

// Equals the quotient, correctly rounded, in every vector lane and in the remainder.
TEST(UnitInterval, IsTheCorrectlyRoundedQuotient) {
    std::vector<std::uint8_t> pixels(256);
    std::iota(pixels.begin(), pixels.end(), std::uint8_t{0});
    for (std::size_t length = 1; length <= 256; ++length) {
        std::vector<float> out(length);
        const auto last = std::span(pixels).last(length);
        to_unit_interval(last, out);
        for (std::size_t i = 0; i < length; ++i) {
            ASSERT_EQ(std::bit_cast<std::uint32_t>(out[i]),
                      std::bit_cast<std::uint32_t>(static_cast<float>(last[i]) / 255.0F))
                << "value " << int{last[i]} << ", length " << length;
        }
    }
}

TEST(SamplesOfShards, AreTheSamplesOfConsecutiveShards) {
    for (const std::int64_t samples : {0, 3, 10, 64}) {
        for (std::int64_t shards = 1; shards <= 9; ++shards) {
            for (std::int64_t begin = 0; begin < shards; ++begin) {
                for (std::int64_t end = begin + 1; end <= shards; ++end) {
                    const core::Range found = samples_of_shards(samples, shards, {begin, end});
                    EXPECT_EQ(found.begin, core::partition(samples, shards, begin).begin);
                    EXPECT_EQ(found.end, core::partition(samples, shards, end - 1).end);
                }
            }
            EXPECT_TRUE(samples_of_shards(samples, shards, {1, 1}).empty());
        }
    }
}

class LoadSplit : public ::testing::Test {
  protected:
    void expect_bad(const std::string& images, const std::string& labels, std::string_view problem,
                    std::size_t classes = 4) {
        support::write_file(images_, images);
        support::write_file(labels_, labels);
        const auto error = error_of([&] { (void)load_split(images_, labels_, classes); });
        ASSERT_TRUE(error) << "accepted, expected the message: " << problem;
        EXPECT_EQ(error->code(), core::ExitCode::bad_data);
        EXPECT_NE(std::string_view(error->what()).find(problem), std::string_view::npos) << error->what();
    }

    support::TemporaryFolder folder_;
    std::filesystem::path images_ = folder_ / "images";
    std::filesystem::path labels_ = folder_ / "labels";
    std::string three_labels_ = idx({3}, std::string("\x00\x03\x01", 3));
};

TEST_F(LoadSplit, GivesPixelsAndLabels) {
    const support::Digits digits = support::make_digits(5, 1);
    support::write_file(images_, digits.images_file());
    support::write_file(labels_, digits.labels_file());
    const Split split = load_split(images_, labels_, 4);
    EXPECT_EQ(split.total, 5);
    EXPECT_EQ(split.local, (core::Range{0, 5}));
    EXPECT_EQ(split.sample_shape, (std::vector<std::size_t>{8, 8}));
    EXPECT_EQ(split.sample_size, 64U);
    EXPECT_EQ(support::characters(split.elements.values()), digits.pixels);
    EXPECT_EQ(std::string(split.labels.values().begin(), split.labels.values().end()), digits.labels);
    std::vector<float> sample(64);
    split.fetch(2, sample);
    for (std::size_t i = 0; i < 64; ++i) {
        EXPECT_EQ(sample[i], static_cast<float>(static_cast<std::uint8_t>(digits.pixels[128 + i])) / 255.0F);
    }
}

TEST_F(LoadSplit, KeepsFloatsOfAnyShape) {
    std::vector<float> values(std::size_t{3} * 2 * 2 * 5);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = 1000.0F / (static_cast<float>(i) - 10.5F);
    }
    support::write_file(images_, idx({3, 2, 2, 5}, support::big_endian(values), 0x0d));
    support::write_file(labels_, three_labels_);
    const Split split = load_split(images_, labels_, 4);
    EXPECT_EQ(split.sample_shape, (std::vector<std::size_t>{2, 2, 5}));
    EXPECT_EQ(split.element, Element::float32);
    EXPECT_EQ(split.sample_bytes(), 80U);
    for (std::int64_t n = 0; n < 3; ++n) {
        std::vector<float> sample(20);
        split.fetch(n, sample);
        EXPECT_EQ(sample, std::vector<float>(values.begin() + n * 20, values.begin() + (n + 1) * 20));
    }
}

TEST_F(LoadSplit, RefusesValuesThatAreNotFinite) {
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
        for (const std::size_t place : {0U, 3U, 5U}) {
            std::vector<float> values(6, 0.5F);
            values[place] = bad;
            expect_bad(idx({3, 2}, support::big_endian(values), 0x0d), three_labels_,
                       "sample " + std::to_string(place / 2) + " has a value that is not finite");
        }
    }
}

TEST_F(LoadSplit, AcceptsSamplesWithoutLabels) {
    support::write_file(images_, idx({2, 3}, "abcdef"));
    const Split split = load_split(images_, {}, 4);
    EXPECT_EQ(split.total, 2);
    EXPECT_EQ(split.labels.size(), 0U);
    EXPECT_EQ(support::characters(split.elements.values()), "abcdef");
}

TEST_F(LoadSplit, RefusesFilesThatDoNotMatch) {
    expect_bad(idx({3, 2}, "abcdef"), idx({2}, std::string("\x00\x01", 2)),
               "the file has 2 labels, but there are 3 samples");
    expect_bad(idx({3, 2}, "abcdef"), idx({4}, std::string("\x00\x01\x01\x01", 4)),
               "the file has 4 labels, but there are 3 samples");
    expect_bad(idx({3, 2}, "abcdef"), idx({3, 1}, std::string("\x00\x01\x02", 3)),
               "but dimensions = 2, elements = unsigned bytes");
    expect_bad(idx({3, 2}, "abcdef"), idx({3}, std::string(12, '\0'), 0x0d), "but dimensions = 1, elements = floats");
    expect_bad(idx({3}, "abc"), three_labels_, "samples need at least two");
    expect_bad(idx({0, 2}, ""), idx({0}, ""), "no samples");
    expect_bad(idx({3, 0}, ""), three_labels_, "no samples");
}

TEST_F(LoadSplit, RefusesLabelsBeyondTheClasses) {
    expect_bad(idx({3, 2}, "abcdef"), three_labels_, "sample 1 has label 3", 3);
    support::write_file(labels_, idx({3}, std::string("\xff\x00\x01", 3)));
    expect_bad(idx({3, 2}, "abcdef"), idx({3}, std::string("\xff\x00\x01", 3)), "sample 0 has label 255", 255);
    support::write_file(images_, idx({3, 2}, "abcdef"));
    EXPECT_FALSE(error_of([&] { (void)load_split(images_, labels_, 256); }));
}

TEST_F(LoadSplit, RefusesDamagedFiles) {
    expect_bad(idx({3, 2}, "abcde"), three_labels_, "truncated");
    expect_bad(idx({3, 2}, "abcdefg"), three_labels_, "more data");
    expect_bad(idx({3, 2}, "abcdef"), idx({3}, std::string("\x00\x01", 2)), "truncated");
    expect_bad(idx({3, 2}, "abcdef"), idx({3}, std::string("\x00\x01\x02\x03", 4)), "more data");
}

// A header may announce terabytes. The reader must not allocate memory on its word alone.
TEST_F(LoadSplit, RefusesHugeClaims) {
    expect_bad(idx({3, 1U << 22, 1U << 23}, "abcdef"), three_labels_, images_.string());
}

} // namespace
} // namespace dtrain::data
