#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/partition.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/data/batch.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/data/sampler.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/nn/interleave.hpp"
#include "dtrain/nn/network.hpp"
#include "dtrain/optim/optimizer.hpp"
#include "dtrain/optim/schedule.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"
#include "dtrain/train/descent.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace dtrain::train {

/// What one rank trains with, put together from a config: its samples, the network, the reducer that joins it to the
/// other ranks, and the descent. It knows steps and nothing of files. Construction and what says so is collective;
/// errors that all ranks see alike are mpi::AgreedError.
class Replica {
  public:
    /// Checks the config, loads the data and allocates everything that a step needs; writes nothing. Both arguments
    /// have to outlive the replica.
    Replica(const config::Config& config, const mpi::Communicator& communicator);
    Replica(const Replica&) = delete; // its parts refer to each other
    Replica& operator=(const Replica&) = delete;

    [[nodiscard]] const config::Config& config() const noexcept { return config_; }
    [[nodiscard]] const mpi::Communicator& communicator() const noexcept { return communicator_; }
    [[nodiscard]] int nodes() const noexcept { return nodes_; }
    [[nodiscard]] core::Range local_shards() const {
        return shards_of_rank_[static_cast<std::size_t>(communicator_.rank())];
    }
    [[nodiscard]] const kernels::Products& products() const noexcept { return *products_; }
    [[nodiscard]] nn::Network<float>& network() noexcept { return *network_; }
    [[nodiscard]] const nn::Network<float>& network() const noexcept { return *network_; }
    [[nodiscard]] const data::Dataset& dataset() const noexcept { return dataset_; }
    [[nodiscard]] const data::Sampler& sampler() const noexcept { return *sampler_; }
    [[nodiscard]] const data::BatchLoader& loader() const noexcept { return *loader_; }
    [[nodiscard]] const optim::Optimizer& optimizer() const noexcept { return *optimizer_; }
    [[nodiscard]] parallel::GradientReducer& reducer() const noexcept { return *reducer_; }
    [[nodiscard]] const Descent& descent() const noexcept { return *descent_; }
    [[nodiscard]] std::span<float> parameters() const noexcept { return descent_->arenas().parameters; }
    [[nodiscard]] std::span<const std::span<float>> states() const noexcept { return descent_->arenas().states; }
    [[nodiscard]] core::PhaseTimer& timer() noexcept { return timer_; }
    /// What a step works on at once.
    [[nodiscard]] nn::Extent step_extent() const;

    /// Collective: the initial parameters, a function of the seed.
    void initialise();
    /// Collective: gives parameters and state, which rank 0 has set, to all.
    void share();

    /// Collective: fetches the batch that follows `step` finished steps and descends, as Descent has it.
    void descend(std::int64_t step, const Notice& notice);

    /// Samples over all ranks of the batch of the last step.
    [[nodiscard]] std::int64_t batch_samples() const noexcept { return batch_samples_; }
    /// Of the last of `step` finished steps, or of the first one where none is finished.
    [[nodiscard]] double last_learning_rate(std::int64_t step) const {
        return schedule_->rate(std::max<std::int64_t>(step - 1, 0));
    }
    /// Collective: throws mpi::AgreedError (diverged) if a parameter is not finite after `step` steps.
    void require_finite(std::int64_t step) const;

  private:
    void load_data();
    void make_reducer();
    void prepare_steps();

    const config::Config& config_;
    const mpi::Communicator& communicator_;
    int nodes_;
    std::vector<core::Range> shards_of_rank_;
    core::PhaseTimer timer_;
    std::unique_ptr<kernels::Products> products_;
    std::optional<nn::Network<float>> network_;
    data::Dataset dataset_;
    std::optional<data::Sampler> sampler_;
    std::optional<data::BatchLoader> loader_;
    std::optional<optim::Schedule> schedule_;
    std::unique_ptr<optim::Optimizer> optimizer_;
    std::unique_ptr<parallel::GradientReducer> reducer_;
    std::unique_ptr<Descent> descent_;
    std::int64_t batch_samples_ = 0;
};

} // namespace dtrain::train
