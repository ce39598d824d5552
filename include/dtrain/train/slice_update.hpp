#pragma once

#include "dtrain/core/partition.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/nn/parameters.hpp"
#include "dtrain/optim/optimizer.hpp"
#include "dtrain/optim/square_sum.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::train {

/// Arenas of parameters and of optimizer state, with the same layout.
struct Arenas {
    std::span<float> parameters;
    std::span<const std::span<float>> states;
};

/// Updates parameters and optimizer state with a summed gradient, on any range of the arenas. It applies the
/// optimizer's rule tensor by tensor if the optimizer needs norms, otherwise to the whole range at once.
class SliceUpdate {
  public:
    /// With `clip_norm` > 0, the mean gradient of all parameters is scaled down to this Euclidean norm where it is
    /// longer (Pascanu, Mikolov and Bengio 2013). `optimizer` must outlive this object.
    SliceUpdate(const nn::ParameterLayout& layout, const optim::Optimizer& optimizer, double clip_norm = 0);

    /// Not collective: updates all elements of the arenas with a summed gradient, for optimizers without norms. Returns
    /// whether every new parameter is finite. Allocates nothing.
    bool update(const Arenas& arenas, std::span<const float> sum, const optim::Step& step);

    /// Collective, after reducer.combine(): updates this rank's slice block by block, while the block's sum is in
    /// cache. Returns whether every new parameter of the slice is finite.
    bool update_slice(const Arenas& arenas, parallel::GradientReducer& reducer, const optim::Step& step,
                      core::PhaseTimer& timer);

  private:
    /// A range that is updated in one way: a tensor if the optimizer needs norms or the network has statistics,
    /// otherwise everything.
    struct Part {
        core::Range range; ///< of the arena
        nn::Role role = nn::Role::parameter;
        bool by_norms = false;
        double rate_factor = 1;
    };
    /// Updates `range` of the arenas. sum[0] belongs to the first element of the range.
    bool update_range(const Arenas& arenas, core::Range range, std::span<const float> sum, const optim::Step& step);
    /// Cuts `range` into pieces that belong to one part each, and calls action(part, piece, sum of the piece).
    template <class Action>
    void for_each_piece(core::Range range, std::span<const float> sum, Action&& action);
    /// Calls action(range, sum) for each block of this rank's slice.
    template <class Action>
    static void for_each_block(parallel::GradientReducer& reducer, std::int64_t step, core::PhaseTimer& timer,
                               Action&& action);
    /// Collective: sets the rate factor of each part from its norms. Returns the step with a clipped gradient.
    [[nodiscard]] optim::Step apply_norms(std::span<const float> parameters, parallel::GradientReducer& reducer,
                                          const optim::Step& step, core::PhaseTimer& timer);
    [[nodiscard]] bool needs_norms() const noexcept { return optimizer_.needs_norms() || clip_norm_ > 0; }
    /// Adds the squares of a part of the gradient to the sum for clip_factor().
    void add_to_clip_sum(core::Range range, std::span<const float> sum, const optim::Step& step);
    /// The factor that clips the gradient whose squares were added.
    [[nodiscard]] double clip_factor() noexcept;
    [[nodiscard]] optim::SquareSum clip_sum() noexcept;

    const optim::Optimizer& optimizer_;
    double clip_norm_;
    double mean_scale_ = 1;   ///< turns the sum of the current step into a mean
    std::vector<Part> parts_; ///< ascending, without gaps
    /// optim::SquareSum of the whole gradient, see add_to_clip_sum(); then, if the optimizer needs norms, of the
    /// parameters and of the gradient of each part.
    std::vector<std::int64_t> squares_;
    std::vector<std::span<float>> state_; ///< of the current piece
};

} // namespace dtrain::train
