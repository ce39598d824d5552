#include "parallel/node_barrier.hpp"
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <thread>
#include <vector>

namespace dtrain::parallel {
namespace {

// Threads stand for the ranks of a node. They write values that are not atomic, so ThreadSanitizer detects a barrier
// that does not order them.
TEST(NodeBarrier, ShowsEveryRankWhatAnyRankWroteBefore) {
    constexpr std::size_t ranks = 3;
    std::array<NodeBarrier::Counter, ranks> shared{};
    std::vector<NodeBarrier::Counter*> counters;
    for (NodeBarrier::Counter& counter : shared) {
        counters.push_back(&counter);
    }
    for (const bool oversubscribed : {false, true}) {
        const int rounds = oversubscribed ? 500 : 20; // the ranks spin while another one has the core
        for (NodeBarrier::Counter& counter : shared) {
            counter.arrivals = 0;
        }
        std::array<int, ranks> written{};
        std::array<int, ranks> wrong{};
        std::vector<std::jthread> threads;
        for (std::size_t rank = 0; rank < ranks; ++rank) {
            threads.emplace_back([&, rank] {
                NodeBarrier barrier(counters, static_cast<int>(rank), Waiter(oversubscribed));
                for (int round = 1; round <= rounds; ++round) {
                    written[rank] = round;
                    barrier.arrive_and_wait();
                    for (const int other : written) {
                        wrong[rank] += other == round ? 0 : 1;
                    }
                    barrier.arrive_and_wait();
                }
            });
        }
        threads.clear();
        EXPECT_EQ(wrong, (std::array<int, ranks>{}));
    }
}

} // namespace
} // namespace dtrain::parallel
