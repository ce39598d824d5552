#include "dtrain/core/hash.hpp"
#include "dtrain/data/dataset.hpp"

#include "support/errors.hpp"
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::data {
namespace {

constexpr std::size_t side = 28;
constexpr std::size_t pixels = side * side;
constexpr std::size_t classes = 10;

/// Samples `local` of a set of `total` samples.
Split make_split(Set set, std::int64_t total, core::Range local) {
    const auto source = make_source("synthetic", {.limits = {total, total}});
    const auto reader = source->open(set);
    Split split = allocate_split(reader->header(), local);
    reader->read(local, split.elements.values(), split.labels.values());
    return split;
}

std::span<const std::byte> sample_of(const Split& split, std::int64_t number) {
    return std::as_const(split).elements.values().subspan(static_cast<std::size_t>(number) * pixels, pixels);
}

std::uint64_t hash_of(const Split& split) {
    core::Hash64 hash;
    hash.update(std::as_bytes(split.labels.values()));
    hash.update(split.elements.values());
    return hash.digest();
}

// A run that resumes from a checkpoint must find the pictures that it was trained with under this name. If these
// numbers change, the name must change too.
TEST(Synthetic, NeverChangesItsPictures) {
    EXPECT_EQ(hash_of(make_split(Set::train, 60'000, {0, 1000})), 0x67737a9270fb6decU);
    EXPECT_EQ(hash_of(make_split(Set::train, 60'000, {59'000, 60'000})), 0x99e2ff871ba33b29U);
    EXPECT_EQ(hash_of(make_split(Set::test, 10'000, {0, 1000})), 0x6a0c71a6add04d6bU);
}

TEST(Synthetic, SamplesDependOnTheirNumberOnly) {
    const Split complete = make_split(Set::train, 300, {0, 300});
    EXPECT_EQ(complete.sample_shape, (std::vector<std::size_t>{side, side}));
    // Another total, and a range that begins elsewhere.
    const Split part = make_split(Set::train, std::int64_t{1} << 35, {123, 200});
    EXPECT_EQ(part.total, std::int64_t{1} << 35);
    for (std::int64_t i = 0; i < part.local.size(); ++i) {
        EXPECT_EQ(part.labels.data()[i], complete.labels.data()[123 + i]);
        EXPECT_TRUE(std::ranges::equal(sample_of(part, i), sample_of(complete, 123 + i))) << i;
    }
    EXPECT_EQ(make_split(Set::test, 5, {3, 3}).labels.size(), 0U);
}

// Numbers beyond 32 bits are distinct samples, too.
TEST(Synthetic, NoTwoPicturesAreTheSame) {
    constexpr std::int64_t count = 20'000;
    std::set<std::vector<std::byte>> seen;
    const auto see = [&](const Split& split) {
        for (std::int64_t i = 0; i < split.local.size(); ++i) {
            const auto sample = sample_of(split, i);
            seen.emplace(sample.begin(), sample.end());
        }
    };
    see(make_split(Set::train, count, {0, count}));
    see(make_split(Set::test, count, {0, count}));
    const std::int64_t far = std::int64_t{1} << 32;
    see(make_split(Set::train, far + count, {far, far + 1000}));
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(2 * count + 1000));
}

TEST(Synthetic, ClassesAreEquallyFrequentAndMixed) {
    constexpr std::int64_t count = 20'000;
    for (const Set set : {Set::train, Set::test}) {
        const Split split = make_split(set, count, {0, count});
        std::array<int, classes> counts{};
        std::array<int, classes * classes> pairs{};
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t label = split.labels.data()[i];
            ASSERT_LT(label, classes);
            ++counts[label];
            if (i > 0) {
                ++pairs[split.labels.data()[i - 1] * classes + label];
            }
        }
        for (const int found : counts) {
            EXPECT_NEAR(found, count / 10.0, 5 * std::sqrt(count * 0.09));
        }
        for (const int found : pairs) {
            EXPECT_NEAR(found, count / 100.0, 5 * std::sqrt(count * 0.01));
        }
    }
}

// A digit has ink, but not too much, hardly any at the border, and grey edges.
TEST(Synthetic, PicturesAreStrokesOnBlack) {
    constexpr std::int64_t count = 5000;
    const Split split = make_split(Set::train, count, {0, count});
    std::int64_t at_border = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        const auto sample = sample_of(split, i);
        int ink = 0;
        int black = 0;
        int grey = 0;
        for (std::size_t p = 0; p < pixels; ++p) {
            const int value = std::to_integer<int>(sample[p]);
            ink += value > 100 ? 1 : 0;
            black += value == 0 ? 1 : 0;
            grey += value > 0 && value < 200 ? 1 : 0;
            const bool border = p % side == 0 || p % side == side - 1 || p < side || p >= pixels - side;
            at_border += border && value > 0 ? 1 : 0;
        }
        EXPECT_GT(ink, 15) << i;
        EXPECT_GT(black, 400) << i;
        EXPECT_GT(grey, 10) << i;
    }
    EXPECT_LT(at_border, count / 2);
}

TEST(Synthetic, HasAsManySamplesAsRequested) {
    const auto source = make_source("synthetic", {});
    EXPECT_EQ(source->open(Set::train)->header().samples, 60'000);
    EXPECT_EQ(source->open(Set::test)->header().samples, 10'000);
    const auto limited = make_source("synthetic", {.limits = {7, 5}});
    EXPECT_EQ(limited->open(Set::train)->header().samples, 7);
    EXPECT_EQ(limited->open(Set::test)->header().samples, 5);
    EXPECT_EQ(limited->open(Set::test)->header().sample_shape, (std::vector<std::size_t>{side, side}));
}

TEST(Synthetic, NeedsNoFilesAndIsReadByEveryRank) {
    const auto source = make_source("synthetic", {"nowhere"});
    EXPECT_TRUE(source->every_rank_reads());
    EXPECT_EQ(source->name({1, 2}), "synthetic digits");
}

// The data cannot be wrong, so the message is about the network.
TEST(Synthetic, RequiresTenClassesOfTheNetwork) {
    SourceSettings settings;
    settings.invalid = [](std::string_view key, std::string_view problem) {
        return core::Error(core::ExitCode::bad_config, "<" + std::string(key) + "> " + std::string(problem));
    };
    const auto source = make_source("synthetic", settings);
    source->open(Set::test)->require_classes(10, {0, 10});
    const auto error = support::error_of([&] { source->open(Set::test)->require_classes(9, {0, 10}); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_config);
    EXPECT_STREQ(error->what(),
                 "<model.layers> synthetic digits have 10 classes, but the last layer has only 9 outputs");
}

} // namespace
} // namespace dtrain::data
