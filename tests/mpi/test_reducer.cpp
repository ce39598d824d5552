#include "dtrain/core/bfloat16.hpp"
#include "dtrain/core/random.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/nn/shard_gradients.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"

#include "support/allocation_count.hpp"
#include "support/products.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace dtrain::parallel {
namespace {

using Gradient = std::vector<float>;

Gradient plus(Gradient left, const Gradient& right) {
    for (std::size_t i = 0; i < left.size(); ++i) {
        left[i] += right[i];
    }
    return left;
}

/// A reducer by name, in a run with these numbers.
struct Case {
    std::string name;
    std::size_t parameters;
    std::int64_t shards;
    int ranks_per_node;
    bool compressed = false;
    [[nodiscard]] bool exact() const { return name == "node"; }
    [[nodiscard]] std::string text() const {
        return name + ", " + std::to_string(parameters) + " parameters, " + std::to_string(shards) +
               " shards, nodes of " + std::to_string(ranks_per_node) + (compressed ? ", compressed" : "");
    }
};

class Reducer : public ::testing::Test {
  protected:
    /// Every reducer, compressed if it can, with few and many parameters, with as many shards as ranks and with more,
    /// on one node and on several nodes of equal and unequal size.
    [[nodiscard]] std::vector<Case> cases() const {
        std::vector<Case> all;
        for (const std::size_t parameters : {16U, 48U, 1600U, 13'072U, 50'000U}) {
            for (const std::string& name : reducer_names()) {
                for (const std::int64_t more_shards : {0, 1, 6}) {
                    for (const int ranks_per_node : {0, 1, 2, 3}) {
                        all.push_back({name, parameters, world_.size() + more_shards, ranks_per_node});
                        if (can_compress(name) && name != "auto") {
                            all.push_back({name, parameters, world_.size() + more_shards, ranks_per_node, true});
                        }
                    }
                }
            }
        }
        for (const int ranks_per_node : {1, 2}) { // enough parameters for several chunks between nodes
            all.push_back({"node", 400'000, world_.size(), ranks_per_node});
            all.push_back({"node", 400'000, world_.size(), ranks_per_node, true});
        }
        return all;
    }
    [[nodiscard]] ReducerSettings settings(const Case& c, std::size_t states = 0) const {
        ReducerSettings made;
        made.parameters = c.parameters;
        made.states = states;
        made.shards = c.shards;
        for (int rank = 0; rank < world_.size(); ++rank) {
            made.shards_of_rank.push_back(core::partition(c.shards, world_.size(), rank));
        }
        made.ranks_per_node = c.ranks_per_node;
        made.compressed = c.compressed;
        return made;
    }
    [[nodiscard]] core::Range local(const Case& c) const {
        return core::partition(c.shards, world_.size(), world_.rank());
    }

    /// A shard's gradient in a step, including the tail, with magnitudes that distinguish orders of addition. Gradients
    /// of one size are cached, because drawing them takes longer than the tested code.
    static const Gradient& draw(const Case& c, std::int64_t shard, std::uint32_t step) {
        static std::map<std::pair<std::int64_t, std::uint32_t>, Gradient> kept;
        const std::size_t size = c.parameters + tail_size;
        if (!kept.empty() && kept.begin()->second.size() != size) {
            kept.clear();
        }
        Gradient& gradient = kept[{shard, step}];
        if (gradient.empty()) {
            core::RandomStream random(1, core::Purpose::initialisation, step, static_cast<std::uint64_t>(shard));
            gradient.resize(size);
            for (float& value : gradient) {
                const double magnitude = static_cast<double>(1 << random.below(12));
                value = static_cast<float>((2 * random.uniform() - 1) * magnitude);
            }
        }
        return gradient;
    }
    static Gradient tree_sum(const Case& c, std::uint32_t step, core::Range node) {
        const auto finish = [&](Gradient gradient) {
            for (std::size_t i = 0; c.compressed && i < c.parameters; ++i) { // not the tail
                gradient[i] = core::from_bfloat16(core::to_bfloat16(gradient[i]));
            }
            return gradient;
        };
        if (node.size() == 1) {
            return finish(draw(c, node.begin, step));
        }
        const std::int64_t middle = core::split_node(node);
        return finish(plus(tree_sum(c, step, {node.begin, middle}), tree_sum(c, step, {middle, node.end})));
    }
    void fill(GradientReducer& reducer, const Case& c, std::uint32_t step) const {
        std::vector<std::span<float>> arenas;
        for (std::size_t i = 0; i < reducer.subtrees().size(); ++i) {
            arenas.push_back(reducer.gradients(i));
            ASSERT_EQ(arenas.back().size(), c.parameters + tail_size);
        }
        nn::ShardGradients<float> gradients(reducer.subtrees(), arenas, c.parameters + tail_size, false,
                                            c.compressed ? c.parameters : 0);
        // In three portions, the last elements first. The tail is written between them. The first step reports nothing.
        if (step > 0) {
            gradients.report_to([&](std::size_t begin) { reducer.report_final(begin); });
        }
        const std::size_t third = c.parameters / 48 * 16;
        const std::array<std::size_t, 4> begins{2 * third, third, c.parameters, 0};
        const std::array<std::size_t, 4> ends{c.parameters, 2 * third, c.parameters + tail_size, third};
        for (std::size_t i = 0; i < begins.size(); ++i) {
            gradients.add_up(begins[i], ends[i] - begins[i], [&](std::size_t shard, std::span<float> out, bool) {
                const Gradient& all = draw(c, local(c).begin + static_cast<std::int64_t>(shard), step);
                std::ranges::copy(std::span(all).subspan(begins[i], out.size()), out.begin());
            });
        }
    }
    /// Visits the blocks of this rank's slice. They must cover it without gaps.
    template <class Action>
    static void for_each_block(GradientReducer& reducer, Action&& action) {
        for (core::Range left = reducer.slice(); !left.empty();) {
            const auto [range, sum] = reducer.sum_block(left.begin);
            ASSERT_EQ(range.begin, left.begin);
            ASSERT_GT(range.end, left.begin);
            ASSERT_LE(range.end, left.end);
            ASSERT_EQ(sum.size(), static_cast<std::size_t>(range.size()));
            action(static_cast<std::size_t>(range.begin), sum);
            left.begin = range.end;
        }
    }
    static void expect_sum(const Case& c, std::span<const float> found, std::span<const float> expected) {
        for (std::size_t i = 0; i < found.size(); ++i) {
            if (c.exact()) {
                ASSERT_EQ(found[i], expected[i]) << c.text() << ", element " << i;
            } else {
                ASSERT_NEAR(found[i], expected[i], 0.05F) << c.text() << ", element " << i;
            }
        }
    }

    mpi::Communicator world_ = mpi::Communicator::world();
};

TEST_F(Reducer, AddsUpAllShardsAndTheTail) {
    for (const Case& c : cases()) {
        const auto reducer = make_reducer(c.name, settings(c), world_);
        for (std::uint32_t step = 0; step < 3; ++step) {
            const Gradient expected = tree_sum(c, step, {0, c.shards});
            ASSERT_NO_FATAL_FAILURE(fill(*reducer, c, step));
            reducer->arrive();
            reducer->combine();
            for_each_block(*reducer, [&](std::size_t begin, std::span<const float> sum) {
                expect_sum(c, sum, std::span<const float>(expected).subspan(begin, sum.size()));
            });
            for (std::size_t i = 0; i < tail_size; ++i) {
                const float tail = reducer->tail()[i];
                expect_sum(c, std::span(&tail, 1), std::span<const float>(expected).subspan(c.parameters + i, 1));
            }
            reducer->publish();
        }
    }
}

// Training depends on this: all ranks see what one rank updates, and every parameter has an owner.
TEST_F(Reducer, ShowsUpdatedSlicesToAll) {
    for (const Case& c : cases()) {
        const auto reducer = make_reducer(c.name, settings(c), world_);
        ASSERT_EQ(reducer->parameters().size(), c.parameters);
        if (reducer->fills_parameters()) {
            for (std::size_t i = 0; i < c.parameters; ++i) {
                reducer->parameters()[i] = static_cast<float>(i);
            }
        }
        reducer->publish();
        for (std::size_t i = 0; i < c.parameters; ++i) {
            ASSERT_EQ(reducer->parameters()[i], static_cast<float>(i)) << c.text();
        }
        world_.barrier();
        Gradient expected(reducer->parameters().begin(), reducer->parameters().end());
        for (std::uint32_t step = 0; step < 4; ++step) {
            expected = plus(expected, tree_sum(c, step, {0, c.shards}));
            ASSERT_NO_FATAL_FAILURE(fill(*reducer, c, step));
            reducer->arrive();
            reducer->combine();
            for_each_block(*reducer, [&](std::size_t begin, std::span<const float> sum) {
                for (std::size_t i = 0; i < sum.size(); ++i) {
                    reducer->parameters()[begin + i] += sum[i];
                }
            });
            reducer->publish();
            expect_sum(c, reducer->parameters(), std::span<const float>(expected).first(c.parameters));
        }
        world_.barrier();
    }
}

TEST_F(Reducer, KeepsStateLikeParameters) {
    for (const std::string& name : reducer_names()) {
        const Case c{name, 160, world_.size(), 0};
        const auto reducer = make_reducer(name, settings(c, 2), world_);
        ASSERT_EQ(reducer->state(0).size(), 160U);
        ASSERT_EQ(reducer->state(1).size(), 160U);
        for (std::size_t i = 0; i < 160; ++i) {
            EXPECT_EQ(reducer->parameters()[i], 0.0F);
            EXPECT_EQ(reducer->state(0)[i], 0.0F) << "state is initially zero";
            EXPECT_EQ(reducer->state(1)[i], 0.0F);
        }
        world_.barrier();
        const core::Range slice = reducer->slice();
        for (auto i = static_cast<std::size_t>(slice.begin); i < static_cast<std::size_t>(slice.end); ++i) {
            reducer->parameters()[i] = 1;
            reducer->state(0)[i] = 2;
            reducer->state(1)[i] = 3;
        }
        reducer->publish();
        for (std::size_t i = 0; i < 160; ++i) {
            EXPECT_EQ(reducer->parameters()[i], 1.0F) << name;
            EXPECT_EQ(reducer->state(0)[i], 2.0F) << name;
            EXPECT_EQ(reducer->state(1)[i], 3.0F) << name;
        }
        world_.barrier();
    }
}

// Sums over slices count every parameter once, on any number of nodes.
TEST_F(Reducer, SumsOverSlicesThatCoverAllParameters) {
    for (const Case& c : cases()) {
        const auto reducer = make_reducer(c.name, settings(c), world_);
        const auto whole = static_cast<std::int64_t>(c.parameters);
        const core::Range slice = reducer->slice();
        std::vector<std::int64_t> sums{slice.size(), (slice.begin + slice.end - 1) * slice.size() / 2};
        reducer->sum_over_slices(sums);
        EXPECT_EQ(sums, (std::vector<std::int64_t>{whole, (whole - 1) * whole / 2})) << c.text();
    }
}

TEST_F(Reducer, AllocatesNothingInAStep) {
    for (const std::string& name : reducer_names()) {
        for (const int ranks_per_node : {0, 1, 2}) {
            const Case c{name, 1600, world_.size() + 3, ranks_per_node, can_compress(name)};
            const auto reducer = make_reducer(name, settings(c), world_);
            std::vector<std::int64_t> counts(8);
            const auto step = [&] {
                for (std::size_t i = 0; i < reducer->subtrees().size(); ++i) {
                    std::ranges::fill(reducer->gradients(i), 1.0F);
                }
                reducer->arrive();
                reducer->combine();
                for_each_block(*reducer, [](std::size_t, std::span<const float>) {});
                reducer->sum_over_slices(counts);
                reducer->publish();
            };
            step();
            const std::size_t before = support::allocation_count;
            for (int i = 0; i < 20; ++i) {
                step();
            }
            EXPECT_EQ(support::allocation_count - before, 0U) << c.text();
        }
    }
}

TEST_F(Reducer, IsFoundByName) {
    const Case c{"auto", 16, world_.size(), 0};
    EXPECT_THROW((void)make_reducer("ring", settings(c), world_), std::out_of_range);
    for (const std::string& name : reducer_names()) {
        EXPECT_NE(make_reducer(name, settings(c), world_), nullptr);
        for (const int nodes : {1, 2}) {
            EXPECT_TRUE(name == "auto" || describe_reducer(name, nodes).starts_with(name));
        }
    }
}

} // namespace
} // namespace dtrain::parallel
