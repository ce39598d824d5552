#include "dtrain/core/nearest.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace dtrain::core {
namespace {

TEST(Nearest, FindsTyposOnly) {
    const std::vector<std::string> names{"sgd", "momentum", "nesterov", "adam", "adamw"};
    EXPECT_EQ(nearest("momentun", names), "momentum");  // changed
    EXPECT_EQ(nearest("momntum", names), "momentum");   // left out
    EXPECT_EQ(nearest("moomentum", names), "momentum"); // inserted
    EXPECT_EQ(nearest("sdg", names), "sgd");            // swapped
    EXPECT_EQ(nearest("NESTEROV", names), "nesterov");
    EXPECT_EQ(nearest("adamx", names), "adam"); // as near as adamw, but first in the list
    EXPECT_EQ(nearest("adamw", names), "adamw");
    EXPECT_EQ(nearest("gds", names), std::nullopt);
    EXPECT_EQ(nearest("", names), std::nullopt);
    EXPECT_EQ(nearest("lion", names), std::nullopt);
    EXPECT_EQ(nearest("lion", {}), std::nullopt);
    EXPECT_EQ(did_you_mean("sdg", names), "; did you mean sgd?");
    EXPECT_EQ(did_you_mean("lion", names), "");
}

} // namespace
} // namespace dtrain::core
