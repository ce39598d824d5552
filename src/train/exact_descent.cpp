#include "dtrain/train/exact_descent.hpp"

#include <algorithm>

namespace dtrain::train {

ExactDescent::ExactDescent(const Tools& tools)
    : Descent(tools, 0, tools.max_rows < static_cast<std::size_t>(tools.sampler.max_local_rows())),
      update_(tools.network.layout(), tools.optimizer, tools.clip_norm) {
    for (std::size_t i = 0; i < tools.optimizer.state_names().size(); ++i) {
        states_.push_back(tools.reducer.state(i));
    }
    arenas_ = {tools.reducer.parameters(), states_};
    scores_.resize(1);
}

void ExactDescent::descend(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice) {
    using core::Phase;
    const auto samples = tools_.sampler.batch_samples(step % tools_.sampler.steps_per_epoch());

    std::ranges::fill(shard_totals_, parallel::StepTotals{});
    add_gradients(step, batch, batch.offsets, draw, arenas_.parameters, gradients_, shard_totals_);
    exchange(step, notice, "in step");
    scores_[0] = score(totals().cost, totals().correct, step);

    parameters_finite_ = update_.update_slice(
        arenas_, tools_.reducer, {step, tools_.schedule.rate(step), 1.0 / static_cast<double>(samples)}, tools_.timer);
    tools_.timer.enter(Phase::wait, step);
    tools_.reducer.publish();
}

} // namespace dtrain::train
