#include "dtrain/core/memory.hpp"

#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

namespace dtrain::core {
namespace {

class GroupLimitTest : public ::testing::Test {
  protected:
    void write(const std::string& name, const std::string& text) const {
        std::filesystem::create_directories((folder_ / name).parent_path());
        std::ofstream(folder_ / name) << text << "\n";
    }
    [[nodiscard]] std::size_t limit() const {
        const auto found = group_limit(folder_.path());
        return found ? found->bytes : 0;
    }
    const support::TemporaryFolder folder_;
};

TEST_F(GroupLimitTest, IsTheTightestOnTheWayUp) {
    write("proc/self/cgroup", "0::/slurm/job/step");
    EXPECT_FALSE(group_limit(folder_.path()));
    write("sys/fs/cgroup/slurm/job/step/memory.max", "max");
    EXPECT_FALSE(group_limit(folder_.path()));
    write("sys/fs/cgroup/slurm/job/memory.max", "1000000");
    write("sys/fs/cgroup/slurm/memory.max", "2000000");
    EXPECT_EQ(limit(), 1000000U);
    write("sys/fs/cgroup/slurm/job/step/memory.max", "500000");
    EXPECT_EQ(limit(), 500000U);
}

TEST_F(GroupLimitTest, IsFoundInVersion1) {
    write("proc/self/cgroup", "5:devices:/\n4:memory:/user/1\n0::/");
    write("sys/fs/cgroup/memory/user/1/memory.limit_in_bytes", "9223372036854771712");
    write("sys/fs/cgroup/memory/user/memory.limit_in_bytes", "600000000");
    EXPECT_EQ(limit(), 600000000U);
}

// A container sees its own group as the top, by a path that is the machine's.
TEST_F(GroupLimitTest, IsFoundInAContainer) {
    write("proc/self/cgroup", "0::/system.slice/docker-0123.scope");
    write("sys/fs/cgroup/memory.max", "700000000");
    EXPECT_EQ(limit(), 700000000U);
}

TEST_F(GroupLimitTest, BelongsToAGroup) {
    write("proc/self/cgroup", "0::/a");
    write("sys/fs/cgroup/a/memory.max", "1000");
    const auto first = group_limit(folder_.path());
    write("proc/self/cgroup", "0::/b");
    write("sys/fs/cgroup/b/memory.max", "1000");
    const auto second = group_limit(folder_.path());
    ASSERT_TRUE(first && second);
    EXPECT_NE(first->group, second->group);
}

TEST(OwnBytes, GrowByWhatIsTouched) {
    const std::size_t before = own_bytes();
    EXPECT_GT(before, 0U);
    const std::vector<char> block(64 << 20, 'x');
    EXPECT_GE(own_bytes(), before + block.size() / 2);
}

} // namespace
} // namespace dtrain::core
