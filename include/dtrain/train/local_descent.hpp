#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/data/batch.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/model/evaluator.hpp"
#include "dtrain/nn/cost.hpp"
#include "dtrain/nn/network.hpp"
#include "dtrain/nn/shard_gradients.hpp"
#include "dtrain/optim/optimizer.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace dtrain::train {

/// Local SGD (Stich, 2019, "Local SGD converges fast and communicates little"): between two exchanges every logical
/// shard descends by itself, on its own samples, from what is common to all; then all shards' parameters and optimizer
/// state are averaged. Shards, not ranks, go their own ways, so the results do not depend on the number of ranks.
///
/// What is exchanged is one vector: the parameters, the optimizer's states, and for each step of a round its cost and
/// how many samples it had right. No function is collective.
class LocalDescent {
  public:
    struct Sizes {
        std::size_t arena = 0; ///< of parameters
        std::size_t states = 0;
        std::int64_t most_steps = 0; ///< of a round

        /// Elements of the vector that are averaged, and of all.
        [[nodiscard]] std::size_t averaged() const noexcept { return arena * (1 + states); }
        [[nodiscard]] std::size_t exchanged() const noexcept;
        /// Where in the vector a step of a round has its cost and its count.
        [[nodiscard]] std::size_t cost_at(std::size_t step) const noexcept { return averaged() + 2 * step; }
        [[nodiscard]] std::size_t correct_at(std::size_t step) const noexcept { return cost_at(step) + 1; }
    };
    /// Elements that `contribute` has added up at once.
    static constexpr std::size_t piece = std::size_t{1} << 14;

    LocalDescent(const Sizes& sizes, std::size_t local_shards, std::size_t most_added_up, kernels::Products& products);

    /// Begins a round with `common`, an exchanged vector, in every shard.
    void begin(std::span<const float> common);
    [[nodiscard]] bool has_begun() const noexcept { return has_begun_; }

    /// One step of every local shard on its rows of `batch`; `step.gradient_scale` is found here. Says whether all
    /// parameters are finite.
    bool descend(nn::Network<float>& network, const nn::Cost<float>& cost, optim::Optimizer& optimizer,
                 const data::Batch& batch, const nn::Draw& draw, optim::Step step,
                 const std::function<void(core::Phase)>& enter);

    /// Ends the round: every shard's vector goes into `sums`, from the last element to the first.
    void contribute(nn::ShardGradients<float>& sums);
    /// Once the vectors of all `shards` shards are combined: sets this rank's slice of the common one.
    void average(parallel::GradientReducer& reducer, std::int64_t shards) const;
    /// Of the round: how many steps it had so far, and the sum of their costs over the samples of local shard `shard`.
    [[nodiscard]] std::size_t steps() const noexcept { return steps_; }
    [[nodiscard]] double cost(std::size_t shard) const noexcept;

    [[nodiscard]] std::size_t bytes() const noexcept; ///< of memory

  private:
    Sizes sizes_;
    std::vector<core::Buffer<float>> shards_; ///< an exchanged vector each
    core::Buffer<float> gradient_;
    nn::ShardGradients<float> gradient_sums_; ///< of one shard: nothing to add up
    std::vector<std::span<float>> states_;
    std::size_t steps_ = 0;
    bool has_begun_ = false;
};

} // namespace dtrain::train
