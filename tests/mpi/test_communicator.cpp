#include "dtrain/mpi/communicator.hpp"
#include "dtrain/mpi/messages.hpp"

#include "support/errors.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <new>
#include <numeric>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace dtrain::mpi {
namespace {

using support::error_of;

static_assert(!std::is_copy_constructible_v<Communicator> && std::is_nothrow_move_constructible_v<Communicator>);

class CommunicatorTest : public ::testing::Test {
  protected:
    Communicator world_ = Communicator::world();
    int rank_ = world_.rank();
    int size_ = world_.size();
    int last_ = size_ - 1;
};

TEST_F(CommunicatorTest, IsADuplicateOfTheWorld) {
    int result = MPI_UNEQUAL;
    MPI_Comm_compare(world_.handle(), MPI_COMM_WORLD, &result);
    EXPECT_TRUE(result == MPI_CONGRUENT || result == MPI_SIMILAR);
    EXPECT_EQ(world_.is_root(), rank_ == 0);
}

TEST_F(CommunicatorTest, LeavesAnEmptySourceWhenMoved) {
    Communicator other = world_.split(0, rank_);
    const MPI_Comm handle = other.handle();
    Communicator moved(std::move(other));
    EXPECT_EQ(moved.handle(), handle);
    EXPECT_EQ(other.handle(), MPI_COMM_NULL); // NOLINT(bugprone-use-after-move): the test is about it
    EXPECT_EQ(other.rank(), -1);
    EXPECT_EQ(other.size(), 0);
    EXPECT_FALSE(other.is_root());
    Communicator assigned = world_.split(rank_, 0);
    assigned = std::move(moved);
    EXPECT_EQ(assigned.handle(), handle);
    EXPECT_EQ(assigned.rank(), rank_);
    EXPECT_EQ(assigned.size(), size_);
    EXPECT_TRUE(moved.handle() == MPI_COMM_NULL || moved.size() == 1) << "rank and size match the handle";
    assigned.barrier();
}

TEST_F(CommunicatorTest, BroadcastsFromAnyRank) {
    for (const int root : {0, last_}) {
        std::vector<float> values{1.5F * static_cast<float>(rank_), -1};
        world_.broadcast(std::span(values), root);
        EXPECT_EQ(values, (std::vector<float>{1.5F * static_cast<float>(root), -1}));
    }
    EXPECT_EQ(world_.broadcast(rank_ == 0 ? std::string("the first's \0 text", 18) : "another"),
              std::string("the first's \0 text", 18));
    EXPECT_EQ(world_.broadcast(rank_ == 0 ? std::string() : "longer"), "");
}

TEST_F(CommunicatorTest, SumsOverAllRanks) {
    std::vector<std::int64_t> values{rank_, 1, std::int64_t{1} << 40};
    world_.sum(std::span(values));
    EXPECT_EQ(values, (std::vector<std::int64_t>{size_ * last_ / 2, size_, size_ * (std::int64_t{1} << 40)}));
    std::array<float, 1> one{1};
    world_.sum(std::span(one));
    EXPECT_EQ(one[0], static_cast<float>(size_));
}

TEST_F(CommunicatorTest, GathersInTheOrderOfRanks) {
    const std::array<double, 2> own{static_cast<double>(rank_), 0.5};
    const std::vector<double> all = world_.gather_all(std::span<const double>(own));
    ASSERT_EQ(all.size(), 2 * static_cast<std::size_t>(size_));
    for (int rank = 0; rank < size_; ++rank) {
        EXPECT_EQ(all[2 * static_cast<std::size_t>(rank)], rank);
        EXPECT_EQ(all[2 * static_cast<std::size_t>(rank) + 1], 0.5);
    }
}

TEST_F(CommunicatorTest, SplitsByColour) {
    const Communicator part = world_.split(rank_ % 2, -rank_);
    EXPECT_EQ(part.size(), rank_ % 2 == 0 ? (size_ + 1) / 2 : size_ / 2);
    const std::vector<int> ranks = part.gather_all(std::span<const int>(&rank_, 1));
    EXPECT_TRUE(std::ranges::is_sorted(ranks, std::greater<>()));
    EXPECT_EQ(ranks[static_cast<std::size_t>(part.rank())], rank_);
}

TEST_F(CommunicatorTest, SplitsByNode) {
    EXPECT_EQ(world_.split_by_node().size(), size_) << "these tests run on one machine";
    for (const int max_ranks : {1, 2, 3}) {
        const Communicator node = world_.split_by_node(max_ranks);
        EXPECT_LE(node.size(), max_ranks);
        EXPECT_EQ(node.rank(), rank_ % max_ranks);
    }
}

TEST_F(CommunicatorTest, SendsAndReceives) {
    const std::string text = "from one to the next";
    if (rank_ > 0) {
        std::array<std::byte, 100> room{};
        const std::size_t got = world_.receive(room, rank_ - 1);
        ASSERT_EQ(got, text.size());
        EXPECT_EQ(std::string(reinterpret_cast<const char*>(room.data()), got), text);
        EXPECT_EQ(world_.receive(room, rank_ - 1), 0U);
    }
    if (rank_ < last_) {
        world_.send(std::as_bytes(std::span(text)), rank_ + 1);
        world_.send({}, rank_ + 1);
    }
}

TEST_F(CommunicatorTest, SendsTheSameMessagesRepeatedly) {
    const auto n = static_cast<std::size_t>(size_);
    // Rank r sends r + 1 values to every other rank, twice in each round.
    std::vector<float> sent(static_cast<std::size_t>(rank_) + 1);
    std::vector<std::vector<float>> received;
    Messages messages;
    std::vector<std::size_t> of_tag[2];
    for (std::size_t r = 0; r < n; ++r) {
        received.emplace_back(2 * (r + 1), -1.0F);
    }
    for (int tag = 0; tag < 2; ++tag) {
        for (int r = 0; r < size_; ++r) {
            if (r != rank_) {
                const std::size_t count = static_cast<std::size_t>(r) + 1;
                const auto place = std::span(received[count - 1]).subspan(static_cast<std::size_t>(tag) * count, count);
                of_tag[tag].push_back(messages.add_receive(world_, place, r, tag));
                of_tag[tag].push_back(messages.add_send(world_, sent, r, tag));
            }
        }
    }
    EXPECT_EQ(messages.size(), 4 * (n - 1));
    EXPECT_TRUE(messages.finished().empty()) << "no message has been started";
    for (int round = 0; round < 3; ++round) {
        std::ranges::fill(sent, static_cast<float>(10 * round + rank_));
        std::vector<int> seen(messages.size(), 0);
        for (const int tag : {1, 0}) { // not in the order in which they were added
            std::ranges::for_each(of_tag[tag], [&](std::size_t message) { messages.start(message); });
        }
        for (std::size_t found = 0; found < messages.size();) {
            for (const int message : messages.finished()) {
                ++seen[static_cast<std::size_t>(message)];
                ++found;
            }
        }
        EXPECT_EQ(seen, std::vector<int>(messages.size(), 1));
        for (int r = 0; r < size_; ++r) {
            const auto& values = received[static_cast<std::size_t>(r)];
            const float expected = r == rank_ ? -1.0F : static_cast<float>(10 * round + r);
            EXPECT_EQ(values, std::vector<float>(values.size(), expected)) << "from rank " << r;
        }
        world_.barrier(); // nobody fills `sent` during a send
    }
}

TEST_F(CommunicatorTest, RefusesCountsThatExceedMpis) {
    EXPECT_EQ(count(7), 7);
    EXPECT_TRUE(error_of([] { (void)count(std::size_t{1} << 31); }));
    EXPECT_EQ(count((std::size_t{1} << 31) - 1), std::numeric_limits<int>::max());
}

TEST_F(CommunicatorTest, CutsRangesThatExceedMpisCounts) {
    constexpr std::size_t max_count = std::size_t{1} << 30;
    std::byte first_byte{};
    for (const std::size_t size : {std::size_t{0}, std::size_t{5}, max_count, 3 * max_count + 7}) {
        std::size_t visited = 0;
        std::size_t pieces = 0;
        for_each_piece(std::span(&first_byte, size), [&](const std::byte* piece, int count) {
            EXPECT_EQ(piece, &first_byte + visited);
            visited += static_cast<std::size_t>(count);
            ++pieces;
        });
        EXPECT_EQ(visited, size);
        EXPECT_EQ(pieces, std::max<std::size_t>(1, (size + max_count - 1) / max_count));
    }
}

TEST_F(CommunicatorTest, RanksAgreeOnTheErrorOfTheLowestRank) {
    for (int first = 0; first < size_; ++first) {
        const auto error = error_of<AgreedError>([&] {
            together(world_, [&] {
                if (rank_ >= first) {
                    throw core::Error(core::ExitCode::bad_data, "rank " + std::to_string(rank_));
                }
            });
        });
        ASSERT_TRUE(error);
        EXPECT_EQ(error->code(), core::ExitCode::bad_data);
        EXPECT_EQ(std::string(error->what()), "rank " + std::to_string(first));
    }
}

TEST_F(CommunicatorTest, RanksAgreeThatThereIsNoError) {
    int ran = 0;
    EXPECT_FALSE(error_of([&] { together(world_, [&] { ++ran; }); }));
    EXPECT_EQ(ran, 1);
    EXPECT_FALSE(error_of(
        [&] { together(world_, rank_ == 0 ? std::function<void()>([&] { ++ran; }) : std::function<void()>()); }));
}

TEST_F(CommunicatorTest, RanksAgreeOnLackOfMemory) {
    const auto error = error_of<AgreedError>([&] {
        together(world_, [&] {
            if (rank_ == last_) {
                throw std::bad_alloc();
            }
        });
    });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_config);
    const std::string text = error->what();
    EXPECT_TRUE(text.starts_with("rank " + std::to_string(last_) + " on ")) << text;
    EXPECT_TRUE(text.ends_with(": out of memory")) << text;
}

} // namespace
} // namespace dtrain::mpi
