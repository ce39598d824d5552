#include "dtrain/train/local_descent.hpp"

#include "dtrain/nn/parameters.hpp"

#include <algorithm>
#include <array>

namespace dtrain::train {
namespace {

/// Elements that are added up per call.
constexpr std::size_t piece = std::size_t{1} << 14;
/// Elements of a step in the exchanged vector.
constexpr std::size_t step_values = 1 + parallel::count_digits;

} // namespace

LocalDescent::Layout::Layout(const config::Config& config, std::size_t parameters, std::size_t optimizer_states,
                             std::int64_t steps_per_epoch)
    : arena(parameters), states(optimizer_states),
      max_steps(static_cast<std::size_t>(std::min(config.parallel.sync_every, steps_per_epoch))) {}

std::size_t LocalDescent::Layout::exchanged() const noexcept {
    constexpr std::size_t unit = nn::ParameterLayout::alignment;
    return (cost_at(max_steps) + unit - 1) / unit * unit;
}

std::size_t LocalDescent::Layout::cost_at(std::size_t step) const noexcept {
    return averaged() + step_values * step;
}

LocalDescent::LocalDescent(const config::Config& config, const Tools& tools)
    : Descent(tools, std::min(piece, tools.reducer.parameters().size()), false),
      layout_(config, tools.network.layout().arena_size(), tools.optimizer.state_names().size(),
              tools.sampler.steps_per_epoch()),
      sync_every_(config.parallel.sync_every), shards_(config.parallel.logical_shards), gradient_(layout_.arena),
      gradient_of_one_({{0, 1}}, {gradient_.values()}, tools.network.max_added_up()),
      update_(tools.network.layout(), tools.optimizer, tools.clip_norm), own_states_(layout_.states) {
    for (std::size_t s = 0; s < shard_totals_.size(); ++s) {
        vectors_.emplace_back(layout_.exchanged());
    }
    for (std::size_t i = 0; i < layout_.states; ++i) {
        states_.push_back(tools_.reducer.parameters().subspan((1 + i) * layout_.arena, layout_.arena));
    }
    arenas_ = {tools_.reducer.parameters().first(layout_.arena), states_};
    scores_.reserve(layout_.max_steps);
}

void LocalDescent::descend(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice) {
    if (steps_ == 0) {
        begin_round();
    }
    descend_apart(step, batch, draw);
    scores_.clear();
    // Depends on the step only, so that rounds are the same after a resume.
    const std::int64_t finished = step % tools_.sampler.steps_per_epoch() + 1; // of the epoch
    if (finished % sync_every_ == 0 || finished == tools_.sampler.steps_per_epoch()) {
        end_round(step, notice);
    }
}

void LocalDescent::begin_round() {
    for (const core::Buffer<float>& vector : vectors_) {
        std::ranges::copy(tools_.reducer.parameters().first(layout_.averaged()), vector.data());
        std::ranges::fill(vector.values().subspan(layout_.averaged()), 0.0F);
    }
    std::ranges::fill(shard_totals_, parallel::StepTotals{});
    parameters_finite_ = true;
}

void LocalDescent::descend_apart(std::int64_t step, const data::Batch& batch, const nn::Draw& draw) {
    for (std::size_t s = 0; s < vectors_.size(); ++s) {
        const std::size_t rows = batch.offsets[s + 1] - batch.offsets[s];
        if (rows == 0) { // possible in the last step of an epoch
            continue;
        }
        const std::span<float> vector = vectors_[s].values();
        const std::span<float> parameters = vector.first(layout_.arena);
        for (std::size_t i = 0; i < own_states_.size(); ++i) {
            own_states_[i] = vector.subspan((1 + i) * layout_.arena, layout_.arena);
        }
        std::array<parallel::StepTotals, 1> totals{};
        add_gradients(step, batch, batch.offsets.subspan(s, 2), draw, parameters, gradient_of_one_, totals);
        float& cost = vector[layout_.cost_at(steps_)];
        cost = static_cast<float>(totals[0].cost);
        parallel::write_count(totals[0].correct,
                              vector.subspan(layout_.cost_at(steps_) + 1).first<parallel::count_digits>());
        shard_totals_[s].cost += static_cast<double>(cost);

        tools_.timer.enter(core::Phase::update, step);
        parameters_finite_ &= update_.update({parameters, own_states_}, gradient_.values(),
                                             {step, tools_.schedule.rate(step), 1.0 / static_cast<double>(rows)});
    }
    ++steps_;
}

void LocalDescent::end_round(std::int64_t step, const Notice& notice) {
    tools_.timer.enter(core::Phase::update, step);
    contribute();
    exchange(step, notice, "in the steps of a round up to");
    average();
    tools_.timer.enter(core::Phase::wait, step);
    tools_.reducer.publish();
    const std::span<const float> sums = tools_.reducer.parameters();
    for (std::size_t i = 0; i < steps_; ++i) {
        const std::size_t cost = layout_.cost_at(i);
        scores_.push_back(score(static_cast<double>(sums[cost]),
                                parallel::read_count(sums.subspan(cost + 1).first<parallel::count_digits>()),
                                step - static_cast<std::int64_t>(steps_ - 1 - i)));
    }
    steps_ = 0;
}

void LocalDescent::contribute() {
    for (std::size_t begin = (layout_.exchanged() - 1) / piece * piece;; begin -= piece) {
        gradients_.add_up(begin, std::min(piece, layout_.exchanged() - begin),
                          [&](std::size_t shard, std::span<float> out, bool) {
                              std::ranges::copy(vectors_[shard].values().subspan(begin, out.size()), out.begin());
                          });
        if (begin == 0) {
            break;
        }
    }
}

void LocalDescent::average() {
    const auto averaged = static_cast<std::int64_t>(layout_.averaged());
    const float share = 1.0F / static_cast<float>(shards_);
    for (core::Range left = tools_.reducer.slice(); !left.empty();) {
        const auto [block, sum] = tools_.reducer.sum_block(left.begin);
        for (std::int64_t i = block.begin; i < block.end; ++i) {
            tools_.reducer.parameters()[static_cast<std::size_t>(i)] =
                sum[static_cast<std::size_t>(i - block.begin)] * (i < averaged ? share : 1.0F);
        }
        left.begin = block.end;
    }
}

} // namespace dtrain::train
