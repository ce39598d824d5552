#include "dtrain/core/shard_tree.hpp"
#include "dtrain/data/batch.hpp"
#include "dtrain/data/sampler.hpp"
#include "dtrain/nn/cost.hpp"
#include "dtrain/nn/network.hpp"
#include "dtrain/optim/optimizer.hpp"

#include "support/allocation_count.hpp"
#include "support/idx_files.hpp"
#include "support/products.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dtrain::train {
namespace {

TEST(Allocations, AreCounted) {
    const std::size_t before = support::allocation_count;
    const auto memory = std::make_unique<int>(1);
    const core::Buffer<float> buffer(3);
    EXPECT_EQ(support::allocation_count - before, 2U);
}

// What a rank does in a step, but for the reducer: nothing of it may allocate.
TEST(Allocations, AreNotMadeByAStep) {
    constexpr std::int64_t shards = 7;
    const support::TemporaryFolder folder;
    const support::Digits digits = support::make_digits(101, 1);
    support::write_file(folder / "images", digits.images_file());
    support::write_file(folder / "labels", digits.labels_file());
    const data::Split split = data::load_split(folder / "images", folder / "labels", 4);

    for (const std::string layers : {"dense 16 sigmoid, dense 16 relu, dropout 0.5, dense 16 tanh, dense 4",
                                     "conv 3x3x3 pad 1 relu, maxpool 2, avgpool 2, dense 4", "lstm 9, dense 4"}) {
        for (const std::string& optimizer_name : optim::optimizer_names()) {
            data::Sampler sampler(split.total, shards, 20, 1, {0, shards});
            const auto rows = static_cast<std::size_t>(sampler.max_local_rows());
            data::BatchLoader loader(split, rows, shards, data::Augmenter({1, 5, 0.1, 0.1, 8, 3}, 8, 8, 1));
            nn::Network<float> network(layers, {8, 8}, support::products());
            network.reserve(nn::Extent::of(rows, shards));
            const auto cost = nn::find_cost<float>("cross_entropy");
            const std::size_t size = network.layout().arena_size();
            core::Buffer<float> parameters(size);
            core::Buffer<float> gradient(size);
            network.initialise(parameters.values(), 1);
            nn::ShardGradients<float> gradients({{0, shards}}, {gradient.values()}, network.most_added_up(),
                                                support::products());
            const auto optimizer = optim::make_optimizer(optimizer_name, {0.9, 1e-4});
            std::vector<core::Buffer<float>> state_buffers;
            std::vector<std::span<float>> states;
            for (std::size_t i = 0; i < optimizer->state_names().size(); ++i) {
                state_buffers.emplace_back(size);
                states.push_back(state_buffers.back().values());
            }

            double sum = 0;
            std::size_t before = 0;
            for (std::uint32_t epoch = 0; epoch < 4; ++epoch) {
                if (epoch == 1) { // the first one is for warming up
                    before = support::allocation_count;
                }
                sampler.start_epoch(epoch);
                for (std::int64_t step = 0; step < sampler.steps_per_epoch(); ++step) {
                    const data::Batch batch = loader.load(sampler, step);
                    const nn::Draw draw{1, epoch, 0, batch.samples};
                    support::products().fetch_beside(batch.upcoming);
                    const auto outputs = network.forward(parameters.values(), {batch.offsets, &draw}, batch.x);
                    sum += cost(outputs, batch.labels, network.output_gradient(batch.x.rows));
                    network.backward(parameters.values(), batch.offsets, batch.x, gradients);
                    optimizer->update(parameters.values(), gradient.values(), states, {step, 0.01, 0.05});
                }
            }
            EXPECT_EQ(support::allocation_count - before, 0U) << layers << ", " << optimizer_name;
            EXPECT_GT(sum, 0.0);
        }
    }
}

} // namespace
} // namespace dtrain::train
