#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/data/batch.hpp"
#include "dtrain/data/sampler.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/model/evaluator.hpp"
#include "dtrain/nn/cost.hpp"
#include "dtrain/nn/network.hpp"
#include "dtrain/nn/shard_gradients.hpp"
#include "dtrain/optim/optimizer.hpp"
#include "dtrain/optim/schedule.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"
#include "dtrain/parallel/step_totals.hpp"
#include "dtrain/train/slice_update.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace dtrain::train {

/// What a rank has to tell all others with its gradients.
struct Notice {
    bool stop_requested = false;
    bool output_failed = false;
};

/// What a descent works with. All of it has to outlive the descent.
struct Tools {
    kernels::Products& products; ///< that the network multiplies by
    nn::Network<float>& network; ///< with room for micro-batches
    std::size_t max_rows;        ///< of a micro-batch
    data::BatchLoader& loader;   ///< likewise
    nn::Cost<float> cost;
    const optim::Optimizer& optimizer;
    const optim::Schedule& schedule;
    const data::Sampler& sampler;
    parallel::GradientReducer& reducer; ///< of the sizes that exchange_sizes() says
    core::PhaseTimer& timer;
    std::size_t local_shards; ///< of this rank
};

/// The way down: from the gradients of this rank's shards to the next parameters of all.
class Descent {
  public:
    virtual ~Descent() = default;
    Descent(const Descent&) = delete;
    Descent& operator=(const Descent&) = delete;

    /// Collective: the step that follows `step` finished ones, on this rank's rows, which it has the loader fetch.
    /// `draw` has the samples of all of them. Throws mpi::AgreedError (diverged),
    /// before any parameter that others see is changed, if the cost is not finite or a parameter was not before.
    virtual void descend(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice) = 0;

    /// Parameters and optimizer state as they are on all ranks, after the last step by which is_synchronised().
    [[nodiscard]] const Arenas& arenas() const noexcept { return arenas_; }
    [[nodiscard]] virtual bool is_synchronised() const noexcept { return true; }
    /// False if one that the last step made is not: known to this rank, and to the others in the next step.
    [[nodiscard]] bool parameters_finite() const noexcept { return parameters_finite_; }
    /// Cost and accuracy, each on its own batch and before it descends, of the steps that became known by the last one.
    [[nodiscard]] std::span<const model::Score> scores() const noexcept { return scores_; }
    /// What all ranks told each other last.
    [[nodiscard]] const parallel::StepTotals& totals() const noexcept { return totals_; }

  protected:
    /// Has at most `most_added_up` elements added up over shards beside what the network does; `in_parts` as
    /// nn::ShardGradients has it.
    Descent(const Tools& tools, std::size_t most_added_up, bool in_parts);

    /// Not collective: forward and backward passes over the rows of some shards, `offsets` in the batch, micro-batch by
    /// micro-batch. Leaves their gradients in `gradients`, and cost and correctly classified samples in their totals.
    void add_gradients(std::int64_t step, const data::Batch& batch, nn::ShardOffsets offsets, const nn::Draw& draw,
                       std::span<const float> parameters, nn::ShardGradients<float>& gradients,
                       std::span<parallel::StepTotals> totals);
    /// Collective: sends off the totals behind the gradients, `shard_totals_` with `notice`, and waits until all are
    /// combined. Throws as descend() does; `where` says of which steps: "in step".
    void exchange(std::int64_t step, const Notice& notice, std::string_view where);
    [[nodiscard]] model::Score score(double cost, std::int64_t correct, std::int64_t step) const;

    Tools tools_;
    nn::MicroBatches micro_batches_;
    nn::ShardGradients<float> gradients_;
    std::vector<parallel::StepTotals> shard_totals_; ///< of the local shards; to be filled before exchange()
    std::vector<model::Score> scores_;
    std::vector<std::span<float>> states_; ///< what arenas_ has
    Arenas arenas_;
    bool parameters_finite_ = true;

  private:
    parallel::StepTotals totals_;
};

/// How many of the rank's rows and shards a descent works on at once where memory allows it.
[[nodiscard]] nn::Extent rows_at_once(const config::Config& config, const data::Sampler& sampler,
                                      std::size_t local_shards);

/// What the reducer of a descent has to hold.
struct ExchangeSizes {
    std::size_t parameters = 0; ///< elements that are added up in an exchange
    std::size_t states = 0;     ///< arenas of as many
};
[[nodiscard]] ExchangeSizes exchange_sizes(const config::Config& config, const nn::ParameterLayout& layout,
                                           const optim::Optimizer& optimizer, const data::Sampler& sampler);

/// Bytes that a descent allocates itself; `in_parts`: where the rows of a step come in several micro-batches.
[[nodiscard]] std::size_t descent_bytes(const config::Config& config, const nn::Network<float>& network,
                                        const parallel::ReducerSettings& exchange, core::Range local_shards,
                                        bool in_parts);

/// The descent that the config asks for. Not collective.
[[nodiscard]] std::unique_ptr<Descent> make_descent(const config::Config& config, const Tools& tools);

} // namespace dtrain::train
