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

/// Flags that a rank sends to all ranks together with its gradients.
struct Notice {
    bool stop_requested = false;
    bool output_failed = false;
};

/// The objects that a descent uses. All of them must outlive the descent.
struct Tools {
    kernels::Products& products; ///< of the network
    nn::Network<float>& network; ///< with memory for micro-batches
    std::size_t max_rows;        ///< of a micro-batch
    data::BatchLoader& loader;   ///< with memory for micro-batches
    nn::Cost<float> cost;
    const optim::Optimizer& optimizer;
    const optim::Schedule& schedule;
    const data::Sampler& sampler;
    parallel::GradientReducer& reducer; ///< with the sizes that exchange_sizes() returns
    core::PhaseTimer& timer;
    std::size_t local_shards; ///< of this rank
    bool compressed = false;  ///< whether the reducer expects compressed gradients
    double clip_norm = 0;     ///< see SliceUpdate
};

/// A training step: computes the gradients of this rank's shards, exchanges them, and updates the parameters.
class Descent {
  public:
    virtual ~Descent() = default;
    Descent(const Descent&) = delete;
    Descent& operator=(const Descent&) = delete;

    /// Collective: the step after `step` finished ones, on this rank's rows of the batch. `draw` has the numbers of
    /// their samples. Throws mpi::AgreedError (diverged) if the cost is not finite, or if a parameter was not finite
    /// after the last step. It throws before it changes any parameter that other ranks see.
    virtual void descend(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice) = 0;

    /// Parameters and optimizer state common to all ranks, after the last step at whose end is_synchronised() was true.
    [[nodiscard]] const Arenas& arenas() const noexcept { return arenas_; }
    [[nodiscard]] virtual bool is_synchronised() const noexcept { return true; }
    /// False if the last step made a parameter that is not finite. Other ranks learn of it in the next step.
    [[nodiscard]] bool parameters_finite() const noexcept { return parameters_finite_; }
    /// Cost and accuracy of the steps that became known in the last step: on their own batches, before their update.
    [[nodiscard]] std::span<const model::Score> scores() const noexcept { return scores_; }
    /// The totals of the last exchange.
    [[nodiscard]] const parallel::StepTotals& totals() const noexcept { return totals_; }

  protected:
    /// `max_added_up`: the maximum `size` with which the descent itself calls ShardGradients::add_up. `in_parts`: see
    /// nn::ShardGradients.
    Descent(const Tools& tools, std::size_t max_added_up, bool in_parts);

    /// Not collective: forward and backward passes over the rows of some shards, one micro-batch after the other.
    /// `offsets`: the rows of the shards in the batch. Adds to `gradients`, and to cost and correct samples in
    /// `totals`.
    void add_gradients(std::int64_t step, const data::Batch& batch, nn::ShardOffsets offsets, const nn::Draw& draw,
                       std::span<const float> parameters, nn::ShardGradients<float>& gradients,
                       std::span<parallel::StepTotals> totals);
    /// Collective: appends `shard_totals_` and `notice` to the gradients, and waits until all gradients are combined.
    /// Throws like descend(). `where` names the steps in the message: "in step".
    void exchange(std::int64_t step, const Notice& notice, std::string_view where);
    [[nodiscard]] model::Score score(double cost, std::int64_t correct, std::int64_t step) const;

    Tools tools_;
    nn::MicroBatches micro_batches_;
    nn::ShardGradients<float> gradients_;
    std::vector<parallel::StepTotals> shard_totals_; ///< of the local shards; must be filled before exchange()
    std::vector<model::Score> scores_;
    std::vector<std::span<float>> states_; ///< arenas_.states refers to these
    Arenas arenas_;
    bool parameters_finite_ = true;

  private:
    parallel::StepTotals totals_;
};

/// How many of the rank's rows and shards a descent processes at once if memory allows it.
[[nodiscard]] nn::Extent rows_at_once(const config::Config& config, const data::Sampler& sampler,
                                      std::size_t local_shards);

/// The memory that a descent needs in the reducer.
struct ExchangeSizes {
    std::size_t parameters = 0; ///< elements that are added up in an exchange
    std::size_t states = 0;     ///< arenas of optimizer state, of `parameters` elements each
};
[[nodiscard]] ExchangeSizes exchange_sizes(const config::Config& config, const nn::ParameterLayout& layout,
                                           const optim::Optimizer& optimizer, const data::Sampler& sampler);

/// Bytes that a descent allocates itself. `in_parts`: a step has several micro-batches.
[[nodiscard]] std::size_t descent_bytes(const config::Config& config, const nn::Network<float>& network,
                                        const parallel::ReducerSettings& exchange, core::Range local_shards,
                                        bool in_parts);

/// Not collective: the descent for a config: LocalDescent if sync_every > 1, else ExactDescent.
[[nodiscard]] std::unique_ptr<Descent> make_descent(const config::Config& config, const Tools& tools);

} // namespace dtrain::train
