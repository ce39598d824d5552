#include "dtrain/config/config.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/train/replica.hpp"

#include "support/allocation_count.hpp"
#include "support/idx_files.hpp"
#include "support/shared_folder.hpp"
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace dtrain::train {
namespace {

class ReplicaTest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (world_.is_root()) {
            support::write_digits(folder_.path(), 90, 9);
        }
        world_.barrier();
    }

    /// Allocations by all threads in the second and third epoch. The first epoch is for warming up.
    std::size_t allocations(const std::vector<std::string>& overrides) {
        std::vector<std::string> all{"--data.directory=" + folder_.path().string(), "--model.cost=cross_entropy",
                                     "--training.batch_size=20", "--training.learning_rate=0.01",
                                     "--parallel.logical_shards=7"};
        all.insert(all.end(), overrides.begin(), overrides.end());
        const config::Config config = config::parse("", "test.ini", all);
        Plan plan(config, world_);
        Replica replica(plan);
        replica.initialise();
        const std::int64_t epoch = replica.sampler().steps_per_epoch();
        std::size_t before = 0;
        for (std::int64_t step = 0; step < 3 * epoch; ++step) {
            if (step == epoch) {
                before = support::allocation_count;
            }
            replica.descend(step, {});
        }
        return support::allocation_count - before;
    }

    mpi::Communicator world_ = mpi::Communicator::world();
    support::SharedFolder folder_{world_};
};

TEST_F(ReplicaTest, AllocationsOfAllThreadsAreCounted) {
    const std::size_t before = support::allocation_count;
    const auto memory = std::make_unique<int>(1);
    const core::Buffer<float> buffer(3);
    std::size_t of_thread = 0;
    std::jthread([&] { of_thread = std::make_unique<std::string>(100, 'x')->size(); }).join();
    EXPECT_EQ(of_thread, 100U);
    EXPECT_GE(support::allocation_count - before, 4U);
}

TEST_F(ReplicaTest, AStepAllocatesNothing) {
    for (const std::string layers : {"dense 16 sigmoid, dense 16 relu, dropout 0.5, dense 16 tanh, dense 4",
                                     "conv 3x3x3 pad 1 relu, maxpool 2, avgpool 2, dense 4", "lstm 9, dense 4"}) {
        for (const std::string& optimizer : optim::optimizer_names()) {
            EXPECT_EQ(allocations({"--model.layers=" + layers, "--training.optimizer=" + optimizer, "--augment.shift=1",
                                   "--augment.rotate=5", "--augment.elastic_alpha=8"}),
                      0U)
                << layers << ", " << optimizer;
        }
    }
}

// The network has more than one chunk, so a thread exchanges gradients during the backward pass.
TEST_F(ReplicaTest, AnExchangeBetweenNodesAllocatesNothing) {
    for (const std::string more : {"--parallel.sync_every=1", "--parallel.sync_every=3", "--parallel.reducer=mpi",
                                   "--parallel.compression=bfloat16"}) {
        EXPECT_EQ(allocations({"--model.layers=dense 2500 relu, dense 4", "--training.optimizer=momentum",
                               "--parallel.ranks_per_node=1", more}),
                  0U)
            << more;
    }
}

// Every network has layers that round the factors of their products. Nodes exchange rounded gradients.
TEST_F(ReplicaTest, AStepInBfloat16AllocatesNothing) {
    for (const std::string layers :
         {"dense 2500 relu, dropout 0.5, dense 40 tanh, dense 4",
          "conv 4x3x3 pad 1 relu, maxpool 2, conv 7x3x3 pad 1 stride 2 tanh, dense 4", "lstm 40, dense 4"}) {
        for (const std::string more : {"--training.micro_batch=0", "--training.micro_batch=32"}) {
            EXPECT_EQ(allocations({"--model.layers=" + layers, "--training.precision=bfloat16",
                                   "--parallel.compression=bfloat16", "--parallel.ranks_per_node=1",
                                   "--training.batch_size=90", "--parallel.logical_shards=3", more}),
                      0U)
                << layers << ", " << more;
        }
    }
}

TEST_F(ReplicaTest, ThreadsOfProductsAllocateNothing) {
    for (const std::string precision : {"float32", "bfloat16"}) {
        EXPECT_EQ(allocations({"--model.layers=dense 200 relu, dense 4", "--parallel.threads=2",
                               "--training.batch_size=90", "--training.precision=" + precision}),
                  0U)
            << precision;
    }
}

TEST_F(ReplicaTest, MicroBatchesAllocateNothing) {
    EXPECT_EQ(allocations({"--model.layers=conv 3x3x3 pad 1 relu, maxpool 2, dense 4", "--training.batch_size=80",
                           "--training.micro_batch=8"}),
              0U);
}

// All batches are full, because batchnorm needs two samples of each shard.
TEST_F(ReplicaTest, BatchNormalisationAndClippingAllocateNothing) {
    for (const std::string layers :
         {"dense 16 relu, dense 4", "conv 3x3x3, batchnorm relu, maxpool 2, dense 8, batchnorm tanh, dense 4"}) {
        for (const std::string more :
             {"--training.optimizer=adam", "--training.optimizer=lars", "--parallel.sync_every=3",
              "--parallel.compression=bfloat16", "--training.precision=bfloat16"}) {
            EXPECT_EQ(allocations({"--model.layers=" + layers, "--training.clip_norm=0.5", "--training.batch_size=18",
                                   "--parallel.ranks_per_node=1", more}),
                      0U)
                << layers << ", " << more;
        }
    }
}

} // namespace
} // namespace dtrain::train
