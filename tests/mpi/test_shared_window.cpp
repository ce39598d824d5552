#include "dtrain/mpi/communicator.hpp"
#include "dtrain/mpi/shared_window.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

namespace dtrain::mpi {
namespace {

static_assert(!std::is_copy_constructible_v<SharedWindow> && std::is_nothrow_move_constructible_v<SharedWindow>);

class SharedWindowTest : public ::testing::Test {
  protected:
    Communicator world_ = Communicator::world();
    Communicator node_ = world_.split_by_node();
};

TEST_F(SharedWindowTest, SegmentsAreZeroedAndSeenByAll) {
    // Of another size on each rank.
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

// Barriers and vector loops put objects there that are aligned to cache lines.
TEST_F(SharedWindowTest, SegmentsBeginOnCacheLines) {
    for (const std::size_t bytes : {8U, 64U, 1000U, 100'000U}) {
        const SharedWindow window(node_, bytes);
        for (int rank = 0; rank < node_.size(); ++rank) {
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(window.segment(rank).data()) % 64, 0U)
                << bytes << " bytes, segment of rank " << rank;
        }
    }
}

TEST_F(SharedWindowTest, LeavesNothingBehindWhenMoved) {
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
