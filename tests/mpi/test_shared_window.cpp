#include "dtrain/mpi/communicator.hpp"
#include "dtrain/mpi/shared_window.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace dtrain::mpi {
namespace {

class SharedWindowTest : public ::testing::Test {
  protected:
    Communicator world_ = Communicator::world();
    Communicator node_ = world_.split_by_node();
};

TEST_F(SharedWindowTest, SegmentsAreZeroedAndSeenByAll) {
    // The segments have different sizes.
    const SharedWindow window(node_, 1000 * (static_cast<std::size_t>(node_.rank()) + 1));
    for (int rank = 0; rank < node_.size(); ++rank) {
        const std::span<std::byte> segment = window.segment(rank);
        ASSERT_GE(segment.size(), 1000 * (static_cast<std::size_t>(rank) + 1));
        EXPECT_TRUE(std::ranges::all_of(segment, [](std::byte value) { return value == std::byte{0}; }));
    }
    node_.barrier();
    std::ranges::fill(window.segment(node_.rank()), static_cast<std::byte>(node_.rank() + 1));
    node_.barrier();
    for (int rank = 0; rank < node_.size(); ++rank) {
        EXPECT_TRUE(std::ranges::all_of(window.segment(rank),
                                        [rank](std::byte value) { return value == static_cast<std::byte>(rank + 1); }));
    }
    node_.barrier();
}

// Barriers and vector loops place objects there that need the alignment of cache lines.
TEST_F(SharedWindowTest, SegmentsBeginOnCacheLines) {
    for (const std::size_t bytes : {8U, 64U, 1000U, 100'000U}) {
        const SharedWindow window(node_, bytes);
        for (int rank = 0; rank < node_.size(); ++rank) {
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(window.segment(rank).data()) % 64, 0U)
                << bytes << " bytes, segment of rank " << rank;
        }
    }
}

/// The segments of this process that would remain if all attached processes ended now.
int lasting_segments() {
    std::ifstream table("/proc/sysvipc/shm");
    int found = 0;
    long key = 0;
    long id = 0;
    unsigned mode = 0;
    std::size_t size = 0;
    int maker = 0;
    table.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    while (table >> key >> id >> std::oct >> mode >> std::dec >> size >> maker) {
        constexpr unsigned marked_for_removal = 01000;
        found += maker == getpid() && (mode & marked_for_removal) == 0 ? 1 : 0;
        table.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    return found;
}

TEST_F(SharedWindowTest, LeavesNoSegmentBehindIfRanksDie) {
    const SharedWindow window(node_, 1000);
    EXPECT_EQ(lasting_segments(), 0);
}

TEST_F(SharedWindowTest, StaysWhileAnyRankUsesIt) {
    std::optional<SharedWindow> window(std::in_place, node_, 1000);
    std::ranges::fill(window->segment(node_.rank()), std::byte{7});
    node_.barrier();
    if (node_.is_root()) {
        window.reset();
    }
    node_.barrier();
    if (window) {
        EXPECT_TRUE(std::ranges::all_of(window->segment(0), [](std::byte value) { return value == std::byte{7}; }));
    }
}

TEST_F(SharedWindowTest, LeavesAnEmptySourceWhenMoved) {
    SharedWindow window(node_, 64);
    std::byte* const memory = window.segment(0).data();
    SharedWindow moved(std::move(window));
    EXPECT_EQ(moved.segment(0).data(), memory);
    SharedWindow assigned(node_, 8);
    assigned = std::move(moved);
    EXPECT_EQ(assigned.segment(0).data(), memory);
}

} // namespace
} // namespace dtrain::mpi
