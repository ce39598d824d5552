#include "dtrain/train/slice_update.hpp"

#include "dtrain/optim/square_sum.hpp"

#include <algorithm>
#include <cmath>

namespace dtrain::train {
namespace {

template <class T>
std::span<T> piece_of(std::span<T> arena, core::Range range) {
    return arena.subspan(static_cast<std::size_t>(range.begin), static_cast<std::size_t>(range.size()));
}

/// Running values move by a part of their distance to the measured ones, scale · sum. Returns whether all are finite.
bool move_running(std::span<float> running, std::span<const float> sum, float scale) {
    constexpr float weight_of_new = 0.1F; // as in PyTorch
    bool finite = true;
    for (std::size_t i = 0; i < running.size(); ++i) {
        running[i] += weight_of_new * (scale * sum[i]);
        finite &= std::isfinite(running[i]);
    }
    return finite;
}

/// The values of the clip sum are measured in clip_unit · clip_norm, since a square sum has a range of its own: this
/// one has an error of at most 4e-6 at clip_norm for 16 million parameters, and reaches gradients of 2e9 times that
/// norm.
constexpr double clip_unit = 0x1p16;

} // namespace

SliceUpdate::SliceUpdate(const nn::ParameterLayout& layout, const optim::Optimizer& optimizer, double clip_norm)
    : optimizer_(optimizer), clip_norm_(clip_norm), squares_(optim::square_limbs),
      state_(optimizer.state_names().size()) {
    const auto end = static_cast<std::int64_t>(layout.arena_size());
    const bool has_statistics = std::ranges::any_of(
        layout.tensors(), [](const nn::Tensor& tensor) { return tensor.role == nn::Role::statistic; });
    if (!optimizer.needs_norms() && !has_statistics) {
        parts_.push_back({{0, end}});
        return;
    }
    for (const nn::Tensor& tensor : layout.tensors()) {
        const auto begin = static_cast<std::int64_t>(tensor.offset);
        if (!parts_.empty()) {
            parts_.back().range.end = begin;
        }
        parts_.push_back({{begin, end}, tensor.role, optimizer.needs_norms() && tensor.shape.size() > 1});
    }
    squares_.resize((1 + 2 * parts_.size()) * optim::square_limbs);
}

template <class Action>
void SliceUpdate::for_each_piece(core::Range range, std::span<const float> sum, Action&& action) {
    auto part = std::ranges::upper_bound(parts_, range.begin, {}, [](const Part& p) { return p.range.end; });
    for (std::int64_t begin = range.begin; begin < range.end; ++part) {
        const core::Range piece{begin, std::min(range.end, part->range.end)};
        action(*part, piece,
               sum.subspan(static_cast<std::size_t>(begin - range.begin), static_cast<std::size_t>(piece.size())));
        begin = piece.end;
    }
}

template <class Action>
void SliceUpdate::for_each_block(parallel::GradientReducer& reducer, std::int64_t step, core::PhaseTimer& timer,
                                 Action&& action) {
    for (core::Range left = reducer.slice(); !left.empty();) {
        timer.enter(core::Phase::reduce, step);
        const auto [block, sum] = reducer.sum_block(left.begin);
        timer.enter(core::Phase::update, step);
        action(block, sum);
        left.begin = block.end;
    }
}

bool SliceUpdate::update_range(const Arenas& arenas, core::Range range, std::span<const float> sum,
                               const optim::Step& step) {
    bool finite = true;
    optim::Step own = step;
    for_each_piece(range, sum, [&](const Part& part, core::Range piece, std::span<const float> gradient) {
        if (part.role == nn::Role::statistic) {
            finite &= move_running(piece_of(arenas.parameters, piece), gradient, static_cast<float>(mean_scale_));
            return;
        }
        std::ranges::transform(arenas.states, state_.begin(), [&](auto arena) { return piece_of(arena, piece); });
        own.learning_rate = step.learning_rate * part.rate_factor;
        finite &= optimizer_.update(piece_of(arenas.parameters, piece), gradient, state_, own);
    });
    return finite;
}

bool SliceUpdate::update_slice(const Arenas& arenas, parallel::GradientReducer& reducer, const optim::Step& step,
                               core::PhaseTimer& timer) {
    mean_scale_ = step.gradient_scale;
    const optim::Step clipped = needs_norms() ? apply_norms(arenas.parameters, reducer, step, timer) : step;
    bool finite = true;
    for_each_block(reducer, step.number, timer, [&](core::Range block, std::span<const float> sum) {
        finite &= update_range(arenas, block, sum, clipped);
    });
    return finite;
}

bool SliceUpdate::update(const Arenas& arenas, std::span<const float> sum, const optim::Step& step) {
    mean_scale_ = step.gradient_scale;
    optim::Step clipped = step;
    const core::Range all{0, static_cast<std::int64_t>(sum.size())};
    if (clip_norm_ > 0) {
        std::ranges::fill(squares_, 0);
        add_to_clip_sum(all, sum, step);
        clipped.gradient_scale *= clip_factor();
    }
    return update_range(arenas, all, sum, clipped);
}

optim::SquareSum SliceUpdate::clip_sum() noexcept {
    return optim::SquareSum(squares_.data(), optim::square_limbs);
}

void SliceUpdate::add_to_clip_sum(core::Range range, std::span<const float> sum, const optim::Step& step) {
    const auto scale = static_cast<float>(step.gradient_scale / (clip_norm_ * clip_unit));
    for_each_piece(range, sum, [&](const Part& part, core::Range, std::span<const float> gradient) {
        if (part.role == nn::Role::parameter) {
            optim::add_squares(gradient, scale, clip_sum());
        }
    });
}

double SliceUpdate::clip_factor() noexcept {
    const double length = optim::square_root(clip_sum()) * clip_unit; // in clip_norm
    return length > 1 ? 1 / length : 1;
}

optim::Step SliceUpdate::apply_norms(std::span<const float> parameters, parallel::GradientReducer& reducer,
                                     const optim::Step& step, core::PhaseTimer& timer) {
    std::ranges::fill(squares_, 0);
    const auto squares = [&](const Part& part, std::size_t which) {
        const auto number = static_cast<std::size_t>(&part - parts_.data());
        return optim::SquareSum(squares_.data() + (1 + 2 * number + which) * optim::square_limbs, optim::square_limbs);
    };
    for_each_block(reducer, step.number, timer, [&](core::Range block, std::span<const float> sum) {
        if (clip_norm_ > 0) {
            add_to_clip_sum(block, sum, step);
        }
        for_each_piece(block, sum, [&](const Part& part, core::Range piece, std::span<const float> gradient) {
            if (part.by_norms) {
                optim::add_squares(piece_of(parameters, piece), 1, squares(part, 0));
                optim::add_squares(gradient, static_cast<float>(step.gradient_scale), squares(part, 1));
            }
        });
    });
    timer.enter(core::Phase::wait, step.number);
    reducer.sum_over_slices(squares_);
    const double factor = clip_norm_ > 0 ? clip_factor() : 1;
    for (Part& part : parts_) {
        if (part.by_norms) {
            part.rate_factor = optimizer_.rate_factor(optim::square_root(squares(part, 0)),
                                                      factor * optim::square_root(squares(part, 1)));
        }
    }
    optim::Step clipped = step;
    clipped.gradient_scale *= factor;
    return clipped;
}

} // namespace dtrain::train
