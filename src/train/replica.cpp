#include "dtrain/train/replica.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/model/build.hpp"
#include "dtrain/model/evaluator.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace dtrain::train {

Replica::Replica(Plan& plan)
    : plan_(plan), dataset_(plan.load()),
      reducer_(parallel::make_reducer(plan.config().parallel.reducer, plan.exchange(), plan.communicator())) {
    mpi::together(plan.communicator(), [&] {
        const auto shards = static_cast<std::size_t>(plan.local_shards().size());
        const nn::Extent& extent = plan.step_extent();
        loader_.emplace(dataset_.train, static_cast<std::size_t>(sampler().max_local_rows()), extent.rows, shards,
                        model::build_augmenter(plan.config(), dataset_.train.sample_shape));
        network().reserve(extent.larger(nn::Extent::of(model::evaluation_rows, 1)));
        descent_ = make_descent(plan.config(),
                                {plan.products(), network(), extent.rows, *loader_, model::find_cost(plan.config()),
                                 plan.optimizer(), plan.schedule(), sampler(), *reducer_, timer_, shards,
                                 plan.exchange().compressed, plan.config().training.clip_norm});
    });
}

void Replica::initialise() {
    if (reducer_->fills_parameters()) {
        network().initialise(parameters(), plan_.config().model.seed);
    }
    reducer_->publish();
}

void Replica::share() {
    core::Buffer<float> scratch;
    mpi::together(plan_.communicator(), [&] {
        scratch = core::Buffer<float>(reducer_->fills_parameters() ? 0 : network().layout().arena_size());
    });
    const auto receive = [&](std::span<float> arena) {
        plan_.communicator().broadcast(reducer_->fills_parameters() ? arena : scratch.values());
    };
    receive(parameters());
    std::ranges::for_each(states(), receive);
    reducer_->publish();
}

void Replica::descend(std::int64_t step, const Notice& notice) {
    const std::int64_t epoch = step / plan_.sampler().steps_per_epoch();
    const std::int64_t step_in_epoch = step % plan_.sampler().steps_per_epoch();
    batch_samples_ = plan_.sampler().batch_samples(step_in_epoch);

    timer_.enter(core::Phase::data, step);
    if (epoch != plan_.sampler().epoch()) {
        plan_.sampler().start_epoch(epoch);
    }
    const data::Batch batch = loader_->select(plan_.sampler(), step_in_epoch);
    const nn::Draw draw{plan_.config().model.seed, static_cast<std::uint32_t>(epoch), dataset_.train.local.begin,
                        batch.samples};
    descent_->descend(step, batch, draw, notice);
    timer_.enter(core::Phase::other, step + 1);
}

void Replica::require_finite(std::int64_t step) const {
    mpi::together(plan_.communicator(), [&] {
        if (!descent_->parameters_finite()) {
            throw core::Error(core::ExitCode::diverged,
                              fmt::format("training diverged: a parameter is not finite after step {} with learning "
                                          "rate {}. Earlier checkpoints stay valid; try a smaller learning rate",
                                          step, last_learning_rate(step)));
        }
    });
}

} // namespace dtrain::train
