#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/run_record.hpp"
#include "dtrain/model/evaluator.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/run/background_writer.hpp"
#include "dtrain/run/best_epoch.hpp"
#include "dtrain/run/progress.hpp"
#include "dtrain/run/run_files.hpp"
#include "dtrain/run/startup_checks.hpp"
#include "dtrain/run/watchdog.hpp"
#include "dtrain/run/write_budget.hpp"
#include "dtrain/train/plan.hpp"
#include "dtrain/train/replica.hpp"

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dtrain::run {

/// One run on all ranks of a communicator. The constructor and every public function are collective. They throw
/// mpi::AgreedError on all ranks.
class Trainer {
  public:
    /// Builds a Plan and a Replica, and writes nothing. Prints the plan before it allocates the memory. Both arguments
    /// must outlive the trainer.
    Trainer(const config::Config& config, const mpi::Communicator& communicator);
    Trainer(const Trainer&) = delete;
    Trainer& operator=(const Trainer&) = delete;

    /// Resumes from the newest checkpoint if there is one, and trains until the last epoch, until the score has not
    /// improved for training.patience epochs, or until a signal requests a stop. Returns ExitCode::ok or
    /// ExitCode::stopped.
    [[nodiscard]] core::ExitCode run();

  private:
    /// Prints the plan, and returns it.
    [[nodiscard]] train::Plan& announce();
    /// Sets parameters, state and record, from the newest valid checkpoint if there is one.
    void restore_or_initialise();
    /// Warns of conditions that make the run slow or may end it.
    void warn_at_start();
    void enter(core::Phase phase) noexcept;
    /// Returns whether a stop was requested.
    [[nodiscard]] bool train();
    void descent_step();
    void finish_epoch();
    [[nodiscard]] bool checkpoint_due();
    void write_checkpoint();
    void write_best();
    /// On rank 0, for a run that resumes: finds or restores best.h5 of the best epoch, or warns.
    void restore_best();
    /// A copy of parameters and state. All copies of one step are the same one.
    [[nodiscard]] std::shared_ptr<const RunFiles::Snapshot> snapshot();
    void write_log();
    /// A copy of the record. The log and the checkpoint of the same step share it.
    [[nodiscard]] std::shared_ptr<const io::RunRecord> copy_of_record();
    void report_end(bool stopped);

    /// Sets the best epoch of the record, on all ranks.
    void find_best();
    /// Why training ends before the last epoch.
    [[nodiscard]] std::string describe_patience() const;
    /// Whether the score has not improved for training.patience epochs.
    [[nodiscard]] bool patience_ended() const {
        return config_.training.patience > 0 && epoch_of(step_) - best_.epoch >= config_.training.patience;
    }
    /// The set whose score chooses the best epoch.
    [[nodiscard]] const char* choosing_set() const {
        return config_.data.validation_samples > 0 ? "validation" : "test";
    }
    [[nodiscard]] std::int64_t epoch_of(std::int64_t step) const { return step / replica_.sampler().steps_per_epoch(); }
    [[nodiscard]] bool epoch_ended() const { return step_ % replica_.sampler().steps_per_epoch() == 0; }
    const config::Config& config_;
    const mpi::Communicator& communicator_;
    Progress progress_;
    train::Plan plan_;
    train::Replica replica_;
    std::optional<model::Evaluator> test_evaluator_;
    std::optional<model::Evaluator> validation_evaluator_; ///< empty without a validation set

    std::int64_t step_ = 0; ///< finished training steps
    std::int64_t total_steps_;
    std::int64_t checkpoint_step_ = -1; ///< step of the last checkpoint that was started
    core::PhaseTimer::Clock::time_point last_checkpoint_;
    bool due_ = false;           ///< a checkpoint is due, and is written when the ranks are synchronised
    bool log_postponed_ = false; ///< the log of the last epoch is not written yet
    WriteBudget log_budget_{core::PhaseTimer::Clock::now()};
    WriteBudget checkpoint_budget_{core::PhaseTimer::Clock::now()};
    WriteBudget best_budget_{core::PhaseTimer::Clock::now()};
    BestEpoch best_;
    bool has_best_file_ = false; ///< on rank 0: at the end of the run, best.h5 is the network of the best epoch
    std::shared_ptr<const RunFiles::Snapshot> unwritten_best_;    ///< on rank 0
    std::weak_ptr<const RunFiles::Snapshot> last_snapshot_;       ///< if it is still in use
    double last_cost_ = std::numeric_limits<double>::quiet_NaN(); ///< of the last step whose cost is known

    std::unique_ptr<Watchdog> watchdog_; ///< while running
    double run_seconds_ = 0;
    double exchange_seconds_ = 0;    ///< the part of run_seconds_ in the phases wait and reduce
    std::int64_t epoch_samples_ = 0; ///< trained by this process in the current epoch
    std::int64_t epoch_steps_ = 0;
    std::int64_t run_samples_ = 0;
    std::optional<ExchangeCheck> exchange_check_; ///< empty if a crowded host slows the exchange anyway

    io::RunRecord record_; ///< on rank 0
    std::shared_ptr<const io::RunRecord> copied_record_;
    std::unique_ptr<RunFiles> files_; ///< on rank 0 while running
};

} // namespace dtrain::run
