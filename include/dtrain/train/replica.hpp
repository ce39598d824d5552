#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/data/batch.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/data/sampler.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/model/evaluator.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/nn/cost.hpp"
#include "dtrain/nn/network.hpp"
#include "dtrain/nn/shard_gradients.hpp"
#include "dtrain/optim/optimizer.hpp"
#include "dtrain/optim/schedule.hpp"
#include "dtrain/optim/square_sum.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"
#include "dtrain/train/local_descent.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::train {

/// "1 epoch", "3 epochs"
[[nodiscard]] std::string count_of(std::int64_t number, std::string_view what);

/// What one rank trains with: its samples, the network, gradients, and the reducer that joins it to the other ranks. It
/// knows descent steps and nothing of files. Construction and what says so is collective; errors that all ranks see
/// alike are mpi::AgreedError.
class Replica {
  public:
    /// Checks the config, loads the data and allocates everything that a descent step needs; writes nothing. Both
    /// arguments have to outlive the replica.
    Replica(const config::Config& config, const mpi::Communicator& communicator);

    /// What is about to be trained on what, as text of several lines.
    [[nodiscard]] std::string description() const;

    /// Bytes of memory of this rank, item by item.
    struct Memory {
        std::size_t samples = 0;
        std::size_t parameters = 0; ///< and optimizer state
        std::size_t gradients = 0;  ///< and what shards have of their own in local SGD
        std::size_t activations = 0;
    };
    [[nodiscard]] Memory memory() const;
    /// Collective: walks once through the shared memory that a step uses, so that it is counted as this process'
    /// memory. Leaves parameters and state as they are.
    void touch_shared_memory();

    [[nodiscard]] int nodes() const noexcept { return nodes_; }
    [[nodiscard]] core::Range local_shards() const {
        return shards_of_rank_[static_cast<std::size_t>(communicator_.rank())];
    }
    [[nodiscard]] const kernels::Products& products() const noexcept { return *products_; }
    [[nodiscard]] nn::Network<float>& network() noexcept { return network_; }
    [[nodiscard]] const nn::Network<float>& network() const noexcept { return network_; }
    [[nodiscard]] const data::Dataset& dataset() const noexcept { return dataset_; }
    [[nodiscard]] const data::Sampler& sampler() const noexcept { return sampler_; }
    [[nodiscard]] const parallel::GradientReducer& reducer() const noexcept { return *reducer_; }
    [[nodiscard]] std::span<float> parameters() const noexcept {
        return reducer_->parameters().first(network_.layout().arena_size());
    }
    /// Arenas of optimizer state, and their names.
    [[nodiscard]] std::span<const std::span<float>> states() const noexcept { return states_; }
    [[nodiscard]] std::vector<std::string> state_names() const { return optimizer_->state_names(); }

    /// Collective: the initial parameters, a function of the seed.
    void initialise();
    /// Collective: gives parameters and state, which rank 0 has set, to all.
    void share();

    /// What a rank has to tell all others with its gradients.
    struct Notice {
        bool stop_requested = false;
        bool output_failed = false;
    };
    /// Collective: the descent step that follows `step` finished ones. Throws mpi::AgreedError (diverged), before any
    /// parameter is changed, if the cost is not finite or a parameter was not after the step before. With sync_every >
    /// 1 the shards go their own ways until the last step of a round, and only then are costs and notices known and
    /// parameters and states changed.
    void descend(std::int64_t step, const Notice& notice);

    /// Of the last step: its batch's samples over all ranks, and how many ranks gave each notice.
    [[nodiscard]] std::int64_t batch_samples() const noexcept { return batch_samples_; }
    /// Cost and accuracy on its own batch, before it descends, of each step up to the last one that has become known by
    /// it: of that step alone, or of a round.
    [[nodiscard]] std::span<const model::Score> scores() const noexcept { return scores_; }
    /// Whether parameters and states are those after the last step, and not of an earlier one.
    [[nodiscard]] bool is_synchronised() const noexcept { return !local_ || !local_->has_begun(); }
    /// Of the last of `step` finished steps, or of the first one where none is finished.
    [[nodiscard]] double last_learning_rate(std::int64_t step) const {
        return schedule_.rate(std::max<std::int64_t>(step - 1, 0));
    }
    [[nodiscard]] bool stop_requested() const noexcept { return reducer_->tail(parallel::Tail::stop_requests) > 0; }
    [[nodiscard]] bool output_failed() const noexcept { return reducer_->tail(parallel::Tail::output_failures) > 0; }
    /// Collective: throws mpi::AgreedError (diverged) if a parameter is not finite after `step` steps.
    void require_finite(std::int64_t step) const;

    /// Time spent, and to whom every change of phase is told: nobody unless set. The observer has to live as long as
    /// steps are taken.
    [[nodiscard]] core::PhaseTimer& timer() noexcept { return timer_; }
    void set_observer(core::PhaseObserver* observer) noexcept { observer_ = observer; }
    void enter(core::Phase phase, std::int64_t step) noexcept;

  private:
    /// What one learning rate holds for: a tensor where the optimizer wants norms, and else everything.
    struct Part {
        core::Range range; ///< of the arena
        bool by_norms = false;
        double rate_factor = 1;
    };
    /// Calls action(part, range, gradient) for pieces that together make up this rank's slice.
    template <class Action>
    void for_each_piece(std::int64_t step, Action&& action);
    /// Collective: how each part's learning rate follows from its norms.
    void find_rate_factors(const optim::Step& step);
    /// Collective: the same for local SGD.
    void descend_locally(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice);
    [[nodiscard]] bool descends_locally() const noexcept { return config_.parallel.sync_every > 1; }
    void require_convergence(std::int64_t step) const;
    void set_tail(const Notice& notice);
    [[nodiscard]] nn::Extent batch_extent() const; ///< of training and evaluation

    const config::Config& config_;
    const mpi::Communicator& communicator_;
    int nodes_;
    std::vector<core::Range> shards_of_rank_;
    std::unique_ptr<kernels::Products> products_;
    nn::Network<float> network_;
    nn::Cost<float> cost_function_;
    data::Dataset dataset_;
    data::Sampler sampler_;
    data::BatchLoader loader_;
    optim::Schedule schedule_;
    std::unique_ptr<optim::Optimizer> optimizer_;
    LocalDescent::Sizes local_sizes_;
    std::unique_ptr<parallel::GradientReducer> reducer_;
    std::vector<std::span<float>> states_;
    nn::ShardGradients<float> gradients_;

    std::int64_t ordered_epoch_ = -1; ///< the epoch whose order of samples the sampler holds
    std::int64_t batch_samples_ = 0;
    std::vector<model::Score> scores_;
    bool parameters_finite_ = true;
    std::vector<model::ScoreSum> shard_scores_;
    std::vector<std::span<float>> state_pieces_;
    std::vector<Part> parts_;           ///< ascending, without gaps
    std::vector<std::int64_t> squares_; ///< of each part, optim::SquareSum of parameters and gradient

    std::optional<LocalDescent> local_; ///< with sync_every > 1

    core::PhaseTimer timer_;
    core::PhaseObserver* observer_ = nullptr;
};

} // namespace dtrain::train
