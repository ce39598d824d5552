#include "dtrain/core/registry.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace dtrain::core {
namespace {

constexpr Registry numbers("number", {Named{"two", 2}, Named{"one", 1}, Named{"three", 3}});

TEST(Registry, FindsByName) {
    static_assert(*numbers.find("one") == 1);
    EXPECT_EQ(numbers.at("three"), 3);
    EXPECT_EQ(numbers.find("thre"), nullptr);
    EXPECT_EQ(numbers.find(""), nullptr);
    EXPECT_EQ(numbers.name_of(1), "one");
}

TEST(Registry, ListsNamesInTheOrderOfTheTable) {
    EXPECT_EQ(numbers.names(), (std::vector<std::string>{"two", "one", "three"}));
}

TEST(Registry, NamesWhatIsMissing) {
    try {
        (void)numbers.at("four");
        FAIL();
    } catch (const std::out_of_range& error) {
        EXPECT_EQ(std::string(error.what()), "no number four");
    }
}

} // namespace
} // namespace dtrain::core
