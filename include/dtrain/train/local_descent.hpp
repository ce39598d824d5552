#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/train/descent.hpp"

namespace dtrain::train {

/// Local SGD (Stich, 2019, "Local SGD converges fast and communicates little"): between two exchanges, the steps of a
/// round, every logical shard descends by itself, on its own samples, from what is common to all; then all shards'
/// parameters and optimizer state are averaged. Shards, not ranks, go their own ways, so the results do not depend on
/// the number of ranks.
///
/// What is exchanged is one vector: the parameters, the optimizer's states, and for each step of a round its cost and
/// how many samples it had right.
class LocalDescent final : public Descent {
  public:
    LocalDescent(const config::Config& config, const Tools& tools);

    /// Collective in the last step of a round alone, by which costs, notices and the common parameters become known.
    void descend(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice) override;
    [[nodiscard]] bool is_synchronised() const noexcept override { return steps_ == 0; }

    /// Where in the exchanged vector things lie.
    struct Layout {
        std::size_t arena = 0; ///< of parameters
        std::size_t states = 0;
        std::size_t max_steps = 0; ///< of a round

        Layout(const config::Config& config, std::size_t parameters, std::size_t states, std::int64_t steps_per_epoch);
        /// Elements of the vector that are averaged, and of all.
        [[nodiscard]] std::size_t averaged() const noexcept { return arena * (1 + states); }
        [[nodiscard]] std::size_t exchanged() const noexcept;
        /// Where a step of a round has its cost, and the digits of its count behind it.
        [[nodiscard]] std::size_t cost_at(std::size_t step) const noexcept;
    };

  private:
    /// Gives every shard what is common.
    void begin_round();
    /// One step of every local shard on its rows.
    void descend_apart(std::int64_t step, const data::Batch& batch, const nn::Draw& draw);
    /// Collective: averages the shards' vectors.
    void end_round(std::int64_t step, const Notice& notice);
    /// Has every shard's vector added up, from the last element to the first.
    void contribute();
    /// Sets this rank's slice of the common vector.
    void average();

    Layout layout_;
    std::int64_t sync_every_;
    std::int64_t shards_;
    std::vector<core::Buffer<float>> vectors_; ///< of the local shards
    core::Buffer<float> gradient_;
    nn::ShardGradients<float> gradient_of_one_; ///< nothing to add up
    SliceUpdate update_;
    std::vector<std::span<float>> own_states_; ///< of a shard
    std::size_t steps_ = 0;                    ///< of the round
};

} // namespace dtrain::train
