#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/data/batch.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/data/sampler.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/run_record.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/nn/cost.hpp"
#include "dtrain/nn/network.hpp"
#include "dtrain/nn/shard_gradients.hpp"
#include "dtrain/optim/optimizer.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"
#include "dtrain/train/background_writer.hpp"
#include "dtrain/train/evaluator.hpp"
#include "dtrain/train/progress.hpp"
#include "dtrain/train/run_files.hpp"
#include "dtrain/train/watchdog.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dtrain::train {

/// The network of a config for samples of one shape. Throws core::Error (bad_config) where its layers do not fit the
/// cost, the samples or each other.
[[nodiscard]] nn::Network<float> build_network(const config::Config& config, const nn::Shape& sample_shape);

/// The network of a checkpoint, without its weights. Throws core::Error (bad_checkpoint) if its config makes none, or
/// one whose tensors the checkpoint does not hold.
[[nodiscard]] nn::Network<float> network_of(const io::Checkpoint& checkpoint);

/// One run on all ranks of a communicator. Construction and every public function is collective; errors that all
/// ranks see alike are mpi::AgreedError.
class Trainer {
  public:
    /// Checks the config, loads the data and allocates everything that a descent step needs; writes nothing. Both
    /// arguments have to outlive the trainer.
    Trainer(const config::Config& config, const mpi::Communicator& communicator);

    /// What is about to be trained on what, as text of several lines.
    [[nodiscard]] std::string description() const;
    /// Memory of this rank, item by item, as text of several lines.
    [[nodiscard]] std::string memory_description() const;

    /// Trains to the last epoch, or from where the newest checkpoint ends, or until a signal asks to stop. Returns
    /// ExitCode::ok or ExitCode::stopped.
    [[nodiscard]] core::ExitCode run();

  private:
    /// Sets parameters, state and record, from the newest whole checkpoint if there is one.
    void restore_or_initialise();
    /// What a checkpoint of this run holds besides the record.
    [[nodiscard]] std::vector<io::TensorView> tensors(std::span<float> parameters,
                                                      std::span<const std::span<float>> states) const;
    void enter(core::Phase phase) noexcept;
    void descent_step();
    void set_tail(std::span<const double> shard_costs);
    void check_outcome();
    /// Collective.
    void require_finite();
    void finish_epoch();
    [[nodiscard]] bool checkpoint_due() const;
    void write_checkpoint();
    void write_log();
    /// A copy of the record, one for log and checkpoint of the same step.
    [[nodiscard]] std::shared_ptr<const io::RunRecord> copy_of_record();
    void report_end(bool stopped);

    [[nodiscard]] std::int64_t epoch_of(std::int64_t step) const { return step / sampler_.steps_per_epoch(); }
    [[nodiscard]] bool epoch_ended() const { return step_ % sampler_.steps_per_epoch() == 0; }
    [[nodiscard]] core::Range local_shards() const {
        return shards_of_rank_[static_cast<std::size_t>(communicator_.rank())];
    }

    const config::Config& config_;
    const mpi::Communicator& communicator_;
    int nodes_;
    std::vector<core::Range> shards_of_rank_;
    nn::Network<float> network_;
    nn::Cost<float> cost_;
    data::Dataset dataset_;
    data::Sampler sampler_;
    data::BatchLoader loader_;
    std::unique_ptr<optim::Optimizer> optimizer_;
    std::unique_ptr<parallel::GradientReducer> reducer_;
    std::vector<std::span<float>> states_;
    nn::ShardGradients<float> gradients_;
    Evaluator evaluator_;
    Progress progress_;

    std::int64_t step_ = 0; ///< finished descent steps
    std::int64_t total_steps_;
    std::int64_t ordered_epoch_ = -1; ///< the epoch whose order of samples the sampler holds
    bool parameters_finite_ = true;
    std::int64_t checkpoint_step_ = -1; ///< of the last checkpoint begun
    core::PhaseTimer::Clock::time_point last_checkpoint_;
    double step_cost_ = 0; ///< mean cost of the last step's batch
    std::vector<double> shard_costs_;
    std::vector<std::span<float>> state_slices_;

    core::PhaseTimer timer_;
    std::unique_ptr<Watchdog> watchdog_; ///< while running
    double run_seconds_ = 0;
    double reduce_seconds_ = 0;
    std::int64_t epoch_samples_ = 0; ///< trained by this process in the present epoch
    std::int64_t run_samples_ = 0;

    io::RunRecord record_; ///< on rank 0
    std::shared_ptr<const io::RunRecord> copied_record_;
    std::unique_ptr<RunFiles> files_; ///< on rank 0 while running
};

} // namespace dtrain::train
