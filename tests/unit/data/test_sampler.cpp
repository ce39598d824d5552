#include "dtrain/data/sampler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace dtrain::data {
namespace {

struct Case {
    std::int64_t samples;
    std::int64_t shards;
    std::int64_t batch_size;
    [[nodiscard]] std::string text() const {
        return std::to_string(samples) + " samples, " + std::to_string(shards) + " shards, batches of " +
               std::to_string(batch_size);
    }
};

// Even and uneven totals, more shards than samples, batches smaller than the number of shards, batches of all samples
// (0) and larger ones, a short last batch.
const std::vector<Case> cases{{64, 8, 16}, {61, 8, 16}, {61, 7, 10},  {5, 8, 2}, {5, 8, 0}, {100, 8, 3},
                              {100, 9, 0}, {100, 1, 1}, {37, 5, 100}, {3, 3, 1}, {1, 1, 1}, {1000, 16, 33}};

/// The samples of each shard in each step of an epoch, numbered in the complete data set.
using Selection = std::vector<std::vector<std::vector<std::int64_t>>>; // [step][shard]

/// Combines the selections of `ranks` ranks.
Selection selection_of(const Case& c, std::uint64_t seed, std::int64_t epoch, std::int64_t ranks) {
    Selection selection;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const core::Range local = core::partition(c.shards, ranks, rank);
        Sampler sampler(c.samples, c.shards, c.batch_size, seed, local);
        sampler.start_epoch(epoch);
        selection.resize(static_cast<std::size_t>(sampler.steps_per_epoch()));
        const std::int64_t first_sample = core::partition(c.samples, c.shards, local.begin).begin;
        std::vector<std::uint32_t> rows(static_cast<std::size_t>(sampler.max_local_rows()));
        std::vector<std::size_t> offsets(static_cast<std::size_t>(local.size()) + 1);
        for (std::size_t step = 0; step < selection.size(); ++step) {
            selection[step].resize(static_cast<std::size_t>(c.shards));
            const std::size_t count = sampler.select(static_cast<std::int64_t>(step), rows, offsets);
            EXPECT_LE(count, rows.size());
            EXPECT_EQ(offsets.front(), 0U);
            EXPECT_EQ(offsets.back(), count);
            for (std::int64_t shard = local.begin; shard < local.end; ++shard) {
                const auto s = static_cast<std::size_t>(shard - local.begin);
                for (std::size_t i = offsets[s]; i < offsets[s + 1]; ++i) {
                    selection[step][static_cast<std::size_t>(shard)].push_back(first_sample + rows[i]);
                }
            }
        }
    }
    return selection;
}

TEST(Sampler, VisitsEverySampleOncePerEpoch) {
    for (const Case& c : cases) {
        std::vector<int> visits(static_cast<std::size_t>(c.samples));
        for (const auto& step : selection_of(c, 1, 0, 1)) {
            for (std::size_t shard = 0; shard < step.size(); ++shard) {
                const core::Range part = core::partition(c.samples, c.shards, static_cast<std::int64_t>(shard));
                for (const std::int64_t sample : step[shard]) {
                    EXPECT_GE(sample, part.begin) << c.text();
                    EXPECT_LT(sample, part.end) << c.text();
                    ++visits.at(static_cast<std::size_t>(sample));
                }
            }
        }
        EXPECT_TRUE(std::ranges::all_of(visits, [](int count) { return count == 1; })) << c.text();
    }
}

TEST(Sampler, FillsEveryBatchButTheLastAndDistributesItEvenly) {
    for (const Case& c : cases) {
        const std::int64_t batch = c.batch_size == 0 ? c.samples : std::min(c.batch_size, c.samples);
        const Sampler sampler(c.samples, c.shards, c.batch_size, 1, {0, c.shards});
        const Selection selection = selection_of(c, 1, 0, 1);
        ASSERT_EQ(sampler.steps_per_epoch(), (c.samples + batch - 1) / batch) << c.text();
        for (std::size_t step = 0; step < selection.size(); ++step) {
            std::size_t sum = 0;
            std::size_t smallest = selection[step].front().size();
            std::size_t largest = smallest;
            for (const auto& share : selection[step]) {
                sum += share.size();
                smallest = std::min(smallest, share.size());
                largest = std::max(largest, share.size());
            }
            const bool last = step + 1 == selection.size();
            const std::int64_t expected = last ? c.samples - batch * (sampler.steps_per_epoch() - 1) : batch;
            EXPECT_EQ(static_cast<std::int64_t>(sum), expected) << c.text() << ", step " << step;
            EXPECT_EQ(sampler.batch_samples(static_cast<std::int64_t>(step)), expected) << c.text();
            EXPECT_LE(largest - smallest, 1U) << c.text() << ", step " << step;
        }
    }
}

TEST(Sampler, SelectsTheSameOnAnyNumberOfRanks) {
    for (const Case& c : cases) {
        const Selection alone = selection_of(c, 3, 2, 1);
        for (std::int64_t ranks = 2; ranks <= c.shards; ++ranks) {
            EXPECT_EQ(selection_of(c, 3, 2, ranks), alone) << c.text() << ", " << ranks << " ranks";
        }
    }
}

TEST(Sampler, IsAPureFunctionOfSeedEpochAndStep) {
    const Case c{61, 7, 10};
    Sampler wandering(c.samples, c.shards, c.batch_size, 5, {0, c.shards});
    for (const std::int64_t epoch : {9, 0, 4}) {
        wandering.start_epoch(epoch);
    }
    const Selection direct = selection_of(c, 5, 4, 1);
    std::vector<std::uint32_t> rows(static_cast<std::size_t>(wandering.max_local_rows()));
    std::vector<std::size_t> offsets(8);
    for (std::size_t step = direct.size(); step-- > 0;) { // backwards: no step depends on one before it
        const std::size_t count = wandering.select(static_cast<std::int64_t>(step), rows, offsets);
        std::vector<std::int64_t> expected;
        for (const auto& share : direct[step]) {
            expected.insert(expected.end(), share.begin(), share.end());
        }
        EXPECT_EQ(std::vector<std::int64_t>(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(count)), expected);
    }
}

TEST(Sampler, ShufflesEveryShardInEveryEpochAndForEverySeed) {
    const Case c{800, 4, 80};
    const auto order_of_shard = [&](const Selection& selection, std::size_t shard) {
        std::vector<std::int64_t> order;
        for (const auto& step : selection) {
            order.insert(order.end(), step[shard].begin(), step[shard].end());
        }
        for (std::int64_t& sample : order) {
            sample -= 200 * static_cast<std::int64_t>(shard);
        }
        return order;
    };
    const Selection first = selection_of(c, 1, 0, 1);
    std::vector<std::vector<std::int64_t>> orders;
    for (std::size_t shard = 0; shard < 4; ++shard) {
        orders.push_back(order_of_shard(first, shard));
        orders.push_back(order_of_shard(selection_of(c, 1, 1, 1), shard));
        orders.push_back(order_of_shard(selection_of(c, 2, 0, 1), shard));
    }
    std::vector<std::int64_t> sorted(200);
    std::iota(sorted.begin(), sorted.end(), 0);
    orders.push_back(sorted);
    std::ranges::sort(orders);
    EXPECT_EQ(std::ranges::adjacent_find(orders), orders.end()) << "two orders are equal";
}

// Every sample is first equally often, because all orders are equally likely.
TEST(Sampler, ShufflesUniformly) {
    constexpr std::size_t samples = 8;
    constexpr int epochs = 8000;
    std::vector<std::vector<int>> counts(samples, std::vector<int>(samples));
    Sampler sampler(samples, 1, 0, 1, {0, 1});
    std::vector<std::uint32_t> rows(samples);
    std::vector<std::size_t> offsets(2);
    for (int epoch = 0; epoch < epochs; ++epoch) {
        sampler.start_epoch(epoch);
        ASSERT_EQ(sampler.select(0, rows, offsets), samples);
        for (std::size_t place = 0; place < samples; ++place) {
            ++counts[place][rows[place]];
        }
    }
    for (const auto& place : counts) {
        for (const int count : place) {
            EXPECT_NEAR(count, epochs / 8, 5 * 29.6); // five standard deviations
        }
    }
}

} // namespace
} // namespace dtrain::data
