#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/train/descent.hpp"

namespace dtrain::train {

/// Local SGD (Stich, 2019, "Local SGD converges fast and communicates little"). A round is several steps without an
/// exchange: every logical shard trains separately on its own samples, starting from the common parameters. Then the
/// parameters and optimizer states of all shards are averaged. Since shards train separately, not ranks, the results do
/// not depend on the number of ranks.
///
/// An exchange adds up one vector: parameters, optimizer states, and for each step of the round its cost and its number
/// of correctly classified samples.
class LocalDescent final : public Descent {
  public:
    LocalDescent(const config::Config& config, const Tools& tools);

    /// Collective only in the last step of a round. In this step, costs, notices and the common parameters become
    /// known.
    void descend(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice) override;
    [[nodiscard]] bool is_synchronised() const noexcept override { return steps_ == 0; }

    /// The layout of the exchanged vector, in elements.
    struct Layout {
        std::size_t arena = 0; ///< size of the arena of parameters
        std::size_t states = 0;
        std::size_t max_steps = 0; ///< of a round

        Layout(const config::Config& config, std::size_t parameters, std::size_t states, std::int64_t steps_per_epoch);
        /// The number of averaged elements, which come first, and of all elements.
        [[nodiscard]] std::size_t averaged() const noexcept { return arena * (1 + states); }
        [[nodiscard]] std::size_t exchanged() const noexcept;
        /// Position of the cost of a step of the round. The digits of its count follow.
        [[nodiscard]] std::size_t cost_at(std::size_t step) const noexcept;
    };

  private:
    /// Copies the common parameters and states to every shard.
    void begin_round();
    /// Not collective: one step of every local shard on its rows.
    void descend_apart(std::int64_t step, const data::Batch& batch, const nn::Draw& draw);
    /// Collective: averages the shards' vectors.
    void end_round(std::int64_t step, const Notice& notice);
    /// Adds up the vectors of the shards, from the last element to the first.
    void contribute();
    /// Computes this rank's slice of the common vector.
    void average();

    Layout layout_;
    std::int64_t sync_every_;
    std::int64_t shards_;
    std::vector<core::Buffer<float>> vectors_; ///< of the local shards
    core::Buffer<float> gradient_;
    nn::ShardGradients<float> gradient_of_one_; ///< of a single shard
    SliceUpdate update_;
    std::vector<std::span<float>> own_states_; ///< of the current shard
    std::size_t steps_ = 0;                    ///< finished steps of the round
};

} // namespace dtrain::train
