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
    [[nodiscard]] std::vector<std::size_t> limits() const {
        std::vector<std::size_t> found;
        for (const GroupLimit& limit : group_limits(folder_.path())) {
            found.push_back(limit.bytes);
        }
        return found;
    }
    const support::TemporaryFolder folder_;
};

using Bytes = std::vector<std::size_t>;

TEST_F(GroupLimitTest, IsFoundInParentGroups) {
    EXPECT_EQ(limits(), Bytes{});
    write("proc/self/cgroup", "0::/slurm/job/step");
    EXPECT_EQ(limits(), Bytes{});
    write("sys/fs/cgroup/slurm/job/step/memory.max", "max");
    EXPECT_EQ(limits(), Bytes{});
    write("sys/fs/cgroup/slurm/job/memory.max", "1000000");
    write("sys/fs/cgroup/slurm/memory.max", "2000000");
    EXPECT_EQ(limits(), (Bytes{1000000, 2000000}));
}

TEST_F(GroupLimitTest, IsFoundInVersion1) {
    write("proc/self/cgroup", "5:devices:/\n4:memory:/user/1\n0::/");
    write("sys/fs/cgroup/memory/user/1/memory.limit_in_bytes", "9223372036854771712"); // none
    write("sys/fs/cgroup/memory/user/memory.limit_in_bytes", "600000000");
    EXPECT_EQ(limits(), (Bytes{9223372036854771712U, 600000000}));
}

// A container sees its own group as the root, but reads the path of the machine's group.
TEST_F(GroupLimitTest, IsFoundInAContainer) {
    write("proc/self/cgroup", "0::/system.slice/docker-0123.scope");
    write("sys/fs/cgroup/memory.max", "700000000");
    EXPECT_EQ(limits(), Bytes{700000000});
}

TEST_F(GroupLimitTest, BelongsToAGroup) {
    write("sys/fs/cgroup/memory.max", "1000");
    write("sys/fs/cgroup/a/memory.max", "1000");
    write("sys/fs/cgroup/b/memory.max", "1000");
    write("proc/self/cgroup", "0::/a");
    const std::vector<GroupLimit> first = group_limits(folder_.path());
    write("proc/self/cgroup", "0::/b");
    const std::vector<GroupLimit> second = group_limits(folder_.path());
    ASSERT_EQ(first.size(), 2U);
    ASSERT_EQ(second.size(), 2U);
    EXPECT_NE(first[0].group, second[0].group);
    EXPECT_EQ(first[1].group, second[1].group);
}

TEST(OwnBytes, GrowByMemoryThatIsWritten) {
    const std::size_t before = own_bytes();
    EXPECT_GT(before, 0U);
    const std::vector<char> block(64 << 20, 'x');
    const volatile char* const bytes = block.data(); // a block that nothing reads may be left out by the compiler
    EXPECT_EQ(bytes[block.size() - 1], 'x');
    EXPECT_GE(own_bytes(), before + block.size() / 2);
}

} // namespace
} // namespace dtrain::core
