#include "dtrain/core/random.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

namespace dtrain::core {
namespace {

// Known answers that Random123 publishes for philox4x32 with 10 rounds (examples/kat_vectors).
TEST(Philox, GivesThePublishedAnswers) {
    EXPECT_EQ(philox({0, 0, 0, 0}, 0, 0), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    constexpr std::uint32_t ones = 0xffffffff;
    EXPECT_EQ(philox({ones, ones, ones, ones}, ones, ones),
              (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
    EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
              (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

std::vector<std::uint32_t> first_numbers(RandomStream stream, std::size_t count) {
    std::vector<std::uint32_t> numbers(count);
    for (std::uint32_t& number : numbers) {
        number = stream.next();
    }
    return numbers;
}

// The weights of every run and the meaning of every checkpoint depend on how stream names become counters.
TEST(RandomStream, IsPhiloxOverItsNameAndCountsBlocks) {
    const std::uint64_t seed = 0x123456789abcdef0;
    const std::uint64_t index = 0xfedcba9876543210;
    const auto numbers = first_numbers({seed, Purpose::sample_order, 0xabcdef, index}, 12);
    for (std::uint32_t block = 0; block < 3; ++block) {
        const PhiloxBlock expected = philox({block, 0x02abcdef, 0x76543210, 0xfedcba98}, 0x9abcdef0, 0x12345678);
        const std::uint32_t* const four = numbers.data() + 4 * block;
        EXPECT_EQ((PhiloxBlock{four[0], four[1], four[2], four[3]}), expected);
    }
}

TEST(RandomStream, DependsOnEveryPartOfItsName) {
    std::set<std::vector<std::uint32_t>> seen;
    std::size_t streams = 0;
    for (const Purpose purpose : {Purpose::initialisation, Purpose::sample_order}) {
        for (const std::uint64_t seed : {0ULL, 1ULL, 1ULL << 32}) {
            for (const std::uint32_t epoch : {0U, 1U, (1U << 24) - 1}) {
                for (const std::uint64_t index : {0ULL, 1ULL, 1ULL << 32}) {
                    seen.insert(first_numbers({seed, purpose, epoch, index}, 4));
                    ++streams;
                }
            }
        }
    }
    EXPECT_EQ(seen.size(), streams);
}

TEST(RandomStream, UniformIsTheSameInFloatAndDouble) {
    RandomStream stream(1, Purpose::initialisation, 0, 0);
    double sum = 0;
    constexpr int draws = 100'000;
    for (int i = 0; i < draws; ++i) {
        const double value = stream.uniform();
        ASSERT_GE(value, 0.0);
        ASSERT_LT(value, 1.0);
        ASSERT_EQ(static_cast<double>(static_cast<float>(value)), value);
        sum += value;
    }
    EXPECT_NEAR(sum / draws, 0.5, 5 * std::sqrt(1.0 / 12 / draws));
}

TEST(RandomStream, BelowReachesEveryNumberEquallyOften) {
    RandomStream stream(7, Purpose::sample_order, 3, 5);
    constexpr int draws = 60'000;
    std::array<int, 6> counts{};
    for (int i = 0; i < draws; ++i) {
        const std::uint32_t value = stream.below(6);
        ASSERT_LT(value, 6U);
        ++counts[value];
    }
    for (const int count : counts) {
        EXPECT_NEAR(count, draws / 6, 5 * std::sqrt(draws * 5.0 / 36));
    }
    EXPECT_EQ(stream.below(1), 0U);
}

// Without rejection, every third number up to 3 · 2^30 would be twice as frequent as the others.
TEST(RandomStream, BelowHasNoBiasForLargeBounds) {
    RandomStream stream(7, Purpose::sample_order, 0, 0);
    constexpr int draws = 30'000;
    std::array<int, 3> counts{};
    for (int i = 0; i < draws; ++i) {
        const std::uint32_t value = stream.below(3U << 30);
        ASSERT_LT(value, 3U << 30);
        ++counts[value % 3];
    }
    for (const int count : counts) {
        EXPECT_NEAR(count, draws / 3, 5 * std::sqrt(draws * 2.0 / 9));
    }
}

} // namespace
} // namespace dtrain::core
