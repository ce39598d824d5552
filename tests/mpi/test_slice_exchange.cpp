#include "dtrain/core/bfloat16.hpp"
#include "dtrain/core/random.hpp"
#include "dtrain/core/shard_tree.hpp"

#include "parallel/slice_exchange.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace dtrain::parallel {
namespace {

using Values = std::vector<float>;

/// A shard's gradient and tail in a step, with magnitudes that distinguish orders of addition.
Values draw(std::int64_t shard, std::uint32_t step, std::size_t size) {
    core::RandomStream random(1, core::Purpose::initialisation, step, static_cast<std::uint64_t>(shard));
    Values values(size);
    for (float& value : values) {
        value = static_cast<float>((2 * random.uniform() - 1) * (1 << random.below(12)));
    }
    return values;
}

/// `compressed`: every node is rounded to bfloat16, except for its tail.
Values tree_sum(core::Range node, std::uint32_t step, std::size_t size, bool compressed) {
    const auto finish = [&](Values values) {
        for (std::size_t i = 0; compressed && i + tail_size < size; ++i) {
            values[i] = core::from_bfloat16(core::to_bfloat16(values[i]));
        }
        return values;
    };
    if (node.size() == 1) {
        return finish(draw(node.begin, step, size));
    }
    const std::int64_t middle = core::split_node(node);
    Values left = tree_sum({node.begin, middle}, step, size, compressed);
    std::ranges::transform(left, tree_sum({middle, node.end}, step, size, compressed), left.begin(), std::plus<>());
    return finish(left);
}

/// A node of one rank.
class Node final : public SliceExchange::Source {
  public:
    void begin_step(const std::vector<core::Range>& subtrees, std::uint32_t step, std::size_t size, bool compressed) {
        partials_.clear();
        for (const core::Range& subtree : subtrees) {
            partials_.push_back(tree_sum(subtree, step, size, compressed));
        }
        final_from(never);
    }
    void final_from(std::int64_t begin) { final_.store(begin, std::memory_order_release); }

    [[nodiscard]] bool is_final_on_node(std::int64_t begin) const noexcept override {
        return begin >= final_.load(std::memory_order_acquire);
    }
    void add_up(std::size_t subtree, core::Range range, float* out) override {
        std::copy(partials_[subtree].begin() + range.begin, partials_[subtree].begin() + range.end, out);
    }

  private:
    static constexpr std::int64_t never = INT64_MAX;
    std::vector<Values> partials_;
    std::atomic<std::int64_t> final_ = never;
};

class SliceExchangeTest : public ::testing::Test {
  protected:
    void add_up_slices(bool compressed);

    mpi::Communicator world_ = mpi::Communicator::world();
    Waiter waiter_{true};
};

// In one chunk and in several, the last one shorter. The slice is all parameters, or begins in their middle.
void SliceExchangeTest::add_up_slices(bool compressed) {
    const std::int64_t shards = 2 * world_.size() + 1;
    std::vector<std::vector<core::Range>> subtrees;
    for (int node = 0; node < world_.size(); ++node) {
        subtrees.push_back(core::complete_subtrees(shards, core::partition(shards, world_.size(), node)));
    }
    for (const std::int64_t size : {16, 1600, 300'000}) {
        for (const core::Range slice : {core::Range{0, size}, core::Range{size / 32 * 16, size}}) {
            const auto total = static_cast<std::size_t>(size) + tail_size;
            Values sum(static_cast<std::size_t>(size), -1.0F);
            Values tail(tail_size);
            Node node;
            SliceExchange exchange(world_.split(0, world_.rank()), slice, size, shards, subtrees, node, sum.data(),
                                   compressed);
            for (std::uint32_t step = 0; step < 3; ++step) {
                node.begin_step(subtrees[static_cast<std::size_t>(world_.rank())], step, total, compressed);
                exchange.advance();
                for (const std::int64_t begin : {size, size / 2, slice.begin}) { // as a backward pass makes progress
                    node.final_from(begin);
                    exchange.advance();
                }
                exchange.finish(tail.data(), waiter_);
                const Values expected = tree_sum({0, shards}, step, total, compressed);
                EXPECT_TRUE(
                    std::equal(sum.begin() + slice.begin, sum.begin() + slice.end, expected.begin() + slice.begin))
                    << size << " elements from " << slice.begin << ", step " << step;
                EXPECT_TRUE(std::equal(tail.begin(), tail.end(), expected.begin() + size));
            }
            world_.barrier();
        }
    }
}

TEST_F(SliceExchangeTest, AddsUpASliceOfAllNodesAndTheTail) {
    add_up_slices(false);
}
TEST_F(SliceExchangeTest, AddsUpCompressedSlices) {
    add_up_slices(true);
}

// As when an exception leaves a step. The test would hang if the exchange's thread did not stop.
TEST_F(SliceExchangeTest, CanBeDestroyedInTheMiddle) {
    Values sum(300'000);
    Node node;
    SliceExchange exchange(world_.split(world_.rank(), 0), {0, 300'000}, 300'000, 1, {{{0, 1}}}, node, sum.data());
    exchange.advance();
}

} // namespace
} // namespace dtrain::parallel
