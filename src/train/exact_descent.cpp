#include "dtrain/train/exact_descent.hpp"

namespace dtrain::train {

ExactDescent::ExactDescent(const Tools& tools) : Descent(tools, 0), update_(tools.network.layout(), tools.optimizer) {
    for (std::size_t i = 0; i < tools.optimizer.state_names().size(); ++i) {
        states_.push_back(tools.reducer.state(i));
    }
    arenas_ = {tools.reducer.parameters(), states_};
    scores_.resize(1);
}

void ExactDescent::descend(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice) {
    using core::Phase;
    const std::span<const float> parameters = arenas_.parameters;
    const auto samples = tools_.sampler.batch_samples(step % tools_.sampler.steps_per_epoch());

    tools_.timer.enter(Phase::forward, step);
    tools_.products.fetch_beside(batch.upcoming);
    const core::MatrixView<const float> outputs = tools_.network.forward(parameters, {batch.offsets, &draw}, batch.x);
    const core::MatrixView<float> output_gradient = tools_.network.output_gradient(batch.x.rows);
    for (std::size_t s = 0; s < shard_totals_.size(); ++s) {
        const std::size_t first = batch.offsets[s];
        const std::size_t rows = batch.offsets[s + 1] - first;
        const core::MatrixView<const float> own = outputs.block(first, rows);
        const std::span<const std::uint8_t> labels = batch.labels.subspan(first, rows);
        shard_totals_[s].cost = tools_.cost(own, labels, output_gradient.block(first, rows));
        shard_totals_[s].correct = model::count_correct(own, labels);
    }

    tools_.timer.enter(Phase::backward, step);
    tools_.network.backward(parameters, batch.offsets, batch.x, gradients_);
    exchange(step, notice, "in step");
    scores_[0] = score(totals().cost, totals().correct, step);

    parameters_finite_ = update_.update_slice(
        arenas_, tools_.reducer, {step, tools_.schedule.rate(step), 1.0 / static_cast<double>(samples)}, tools_.timer);
    tools_.timer.enter(Phase::wait, step);
    tools_.reducer.publish();
}

} // namespace dtrain::train
