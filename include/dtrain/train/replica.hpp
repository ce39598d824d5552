#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/partition.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/data/batch.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/data/sampler.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/nn/network.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"
#include "dtrain/train/descent.hpp"
#include "dtrain/train/plan.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace dtrain::train {

/// The training of one rank, built from a plan: its samples, the network, the reducer and the descent. It runs steps,
/// and writes no files. The constructor and the functions marked collective throw mpi::AgreedError on all ranks.
class Replica {
  public:
    /// Collective: loads the data and allocates everything that a step needs. The plan must outlive the replica, and
    /// serves one replica only.
    explicit Replica(Plan& plan);
    Replica(const Replica&) = delete; // its parts refer to each other
    Replica& operator=(const Replica&) = delete;

    [[nodiscard]] const Plan& plan() const noexcept { return plan_; }
    [[nodiscard]] nn::Network<float>& network() noexcept { return plan_.network(); }
    [[nodiscard]] const nn::Network<float>& network() const noexcept { return plan_.network(); }
    [[nodiscard]] const data::Dataset& dataset() const noexcept { return dataset_; }
    [[nodiscard]] const data::Sampler& sampler() const noexcept { return plan_.sampler(); }
    [[nodiscard]] const Descent& descent() const noexcept { return *descent_; }
    [[nodiscard]] std::span<float> parameters() const noexcept { return descent_->arenas().parameters; }
    [[nodiscard]] std::span<const std::span<float>> states() const noexcept { return descent_->arenas().states; }
    [[nodiscard]] core::PhaseTimer& timer() noexcept { return timer_; }

    /// Collective: sets the initial parameters, a function of the seed.
    void initialise();
    /// Collective: copies parameters and state from rank 0 to all ranks.
    void share();

    /// Collective: runs the step after `step` finished steps, on its batch. Throws like Descent::descend().
    void descend(std::int64_t step, const Notice& notice);

    /// Size of the global batch of the last step.
    [[nodiscard]] std::int64_t batch_samples() const noexcept { return batch_samples_; }
    /// The learning rate of the last of `step` finished steps, or of the first step if none is finished.
    [[nodiscard]] double last_learning_rate(std::int64_t step) const {
        return plan_.schedule().rate(std::max<std::int64_t>(step - 1, 0));
    }
    /// Collective: throws mpi::AgreedError (diverged) if a parameter is not finite after `step` steps.
    void require_finite(std::int64_t step) const;

  private:
    Plan& plan_;
    core::PhaseTimer timer_;
    data::Dataset dataset_;
    std::unique_ptr<parallel::GradientReducer> reducer_;
    std::optional<data::BatchLoader> loader_;
    std::unique_ptr<Descent> descent_;
    std::int64_t batch_samples_ = 0;
};

} // namespace dtrain::train
