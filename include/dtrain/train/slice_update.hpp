#pragma once

#include "dtrain/core/partition.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/nn/parameters.hpp"
#include "dtrain/optim/optimizer.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::train {

/// Arenas of parameters and of optimizer state, of one layout.
struct Arenas {
    std::span<float> parameters;
    std::span<const std::span<float>> states;
};

/// Changes parameters and optimizer state by a gradient that has been summed up, whatever piece of the arenas it is:
/// the optimizer's rule is applied tensor by tensor where it wants norms, and else to all at once.
class SliceUpdate {
  public:
    /// `optimizer` has to outlive this.
    SliceUpdate(const nn::ParameterLayout& layout, const optim::Optimizer& optimizer);

    /// Not collective: updates `range` of the arenas; sum[0] belongs to its first place. Returns whether every new
    /// parameter is finite. Allocates nothing.
    bool update(const Arenas& arenas, core::Range range, std::span<const float> sum, const optim::Step& step);

    /// Collective, once `reducer` has combined the gradients: updates this rank's slice block by block, each while its
    /// sum is in cache. As above.
    bool update_slice(const Arenas& arenas, parallel::GradientReducer& reducer, const optim::Step& step,
                      core::PhaseTimer& timer);

  private:
    /// What one learning rate holds for: a tensor where the optimizer wants norms, and else everything.
    struct Part {
        core::Range range; ///< of the arena
        bool by_norms = false;
        double rate_factor = 1;
    };
    /// Calls action(part, piece, sum) for the pieces of `range` that belong to one part each, `sum` being that of the
    /// piece.
    template <class Action>
    void for_each_piece(core::Range range, std::span<const float> sum, Action&& action);
    /// Calls action(range, sum) for the blocks of this rank's slice.
    template <class Action>
    static void for_each_block(parallel::GradientReducer& reducer, std::int64_t step, core::PhaseTimer& timer,
                               Action&& action);
    /// Collective: how each part's learning rate follows from its norms.
    void find_rate_factors(std::span<const float> parameters, parallel::GradientReducer& reducer,
                           const optim::Step& step, core::PhaseTimer& timer);

    const optim::Optimizer& optimizer_;
    std::vector<Part> parts_;             ///< ascending, without gaps
    std::vector<std::int64_t> squares_;   ///< of each part, optim::SquareSum of parameters and gradient
    std::vector<std::span<float>> state_; ///< of the piece at hand
};

} // namespace dtrain::train
