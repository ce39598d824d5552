#include "dtrain/core/number.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

namespace dtrain::core {
namespace {

TEST(Number, IsTheCompleteText) {
    EXPECT_EQ(parse_number<int>("-12"), -12);
    EXPECT_EQ(parse_number<std::uint64_t>("18446744073709551615"), 18446744073709551615U);
    EXPECT_EQ(parse_number<double>("2.5e-3"), 2.5e-3);
    EXPECT_EQ(parse_number<std::uint64_t>("ff", 16), 255U);
    for (const char* const text : {"", " 1", "1 ", "+1", "1x", "x", "--1"}) {
        EXPECT_EQ(parse_number<std::int64_t>(text), std::nullopt) << text;
        EXPECT_EQ(parse_number<double>(text), std::nullopt) << text;
    }
    EXPECT_EQ(parse_number<int>("1.5"), std::nullopt);
}

TEST(Number, FitsItsType) {
    EXPECT_EQ(parse_number<int>("2147483648"), std::nullopt);
    EXPECT_EQ(parse_number<std::size_t>("-1"), std::nullopt);
    EXPECT_EQ(parse_number<double>("1e999"), std::nullopt);
}

TEST(Number, IsFinite) {
    for (const char* const text : {"inf", "-inf", "infinity", "nan", "-nan"}) {
        EXPECT_EQ(parse_number<double>(text), std::nullopt) << text;
    }
}

} // namespace
} // namespace dtrain::core
