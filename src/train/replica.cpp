#include "dtrain/train/replica.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/model/build.hpp"
#include "dtrain/model/data_source.hpp"
#include "dtrain/model/evaluator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace dtrain::train {
namespace {

/// What tables and the number of ranks decide about a config.
void check(const config::Config& config, int ranks) {
    model::check_names(config);
    config.require_one_of("parallel.reducer", parallel::reducer_names());
    if (ranks > config.parallel.logical_shards) {
        throw config.invalid("parallel.logical_shards",
                             fmt::format("{0} ranks need at least as many logical shards; start fewer ranks, or set "
                                         "--parallel.logical_shards={0} (results depend on that number)",
                                         ranks));
    }
}

int count_nodes(const mpi::Communicator& communicator, int node_ranks) {
    std::array<int, 1> first{communicator.split_by_node(node_ranks).is_root() ? 1 : 0};
    communicator.sum(std::span(first));
    return first[0];
}

std::vector<core::Range> share_out(int shards, int ranks) {
    std::vector<core::Range> shares;
    for (int rank = 0; rank < ranks; ++rank) {
        shares.push_back(core::partition(shards, ranks, rank));
    }
    return shares;
}

} // namespace

Replica::Replica(const config::Config& config, const mpi::Communicator& communicator)
    : config_(config), communicator_(communicator), nodes_(count_nodes(communicator, config.parallel.node_ranks)),
      shards_of_rank_(share_out(config.parallel.logical_shards, communicator.size())) {
    mpi::together(communicator, [&] { check(config, communicator.size()); });
    load_data();
    make_reducer();
    prepare_steps();
}

void Replica::load_data() {
    data::DatasetLoader samples = model::open_dataset(config_, communicator_);
    const nn::Shape& shape = samples.header(data::Set::train).sample_shape;
    mpi::together(communicator_, [&] {
        model::check_augmentation(config_, shape);
        products_ = kernels::make_exact_products(config_.parallel.blas_threads);
        network_.emplace(model::build_network(config_, shape, *products_));
    });
    samples.require_classes(network_->outputs());
    dataset_ = samples.load(config_.parallel.logical_shards, shards_of_rank_);
}

void Replica::make_reducer() {
    parallel::ReducerSettings settings;
    mpi::together(communicator_, [&] {
        sampler_.emplace(dataset_.train.total, config_.parallel.logical_shards, config_.training.batch_size,
                         config_.model.seed, local_shards());
        schedule_.emplace(model::build_schedule(config_, sampler_->steps_per_epoch()));
        optimizer_ = model::build_optimizer(config_);
        const ExchangeSizes sizes = exchange_sizes(config_, network_->layout(), *optimizer_, *sampler_);
        settings = {sizes.parameters, sizes.states, config_.parallel.logical_shards, shards_of_rank_,
                    config_.parallel.node_ranks};
    });
    reducer_ = parallel::make_reducer(config_.parallel.reducer, settings, communicator_);
}

void Replica::prepare_steps() {
    mpi::together(communicator_, [&] {
        const auto shards = static_cast<std::size_t>(local_shards().size());
        const nn::Extent extent = step_extent();
        loader_.emplace(dataset_.train, static_cast<std::size_t>(sampler_->max_local_rows()), extent.rows, shards,
                        model::build_augmenter(config_, dataset_.train.sample_shape));
        network_->reserve(extent.larger(nn::Extent::of(model::evaluation_rows, 1)));
        descent_ = make_descent(config_, {*products_, *network_, extent.rows, *loader_, model::find_cost(config_),
                                          *optimizer_, *schedule_, *sampler_, *reducer_, timer_, shards});
    });
}

nn::Extent Replica::step_extent() const {
    const nn::Extent all = rows_at_once(config_, *sampler_, static_cast<std::size_t>(local_shards().size()));
    const auto wanted = static_cast<std::size_t>(config_.training.micro_batch);
    return wanted == 0 ? all : nn::Extent::of(std::min(all.rows, wanted), all.shards);
}

void Replica::initialise() {
    if (reducer_->fills_parameters()) {
        network_->initialise(parameters(), config_.model.seed);
    }
    reducer_->publish();
}

void Replica::share() {
    core::Buffer<float> scratch;
    mpi::together(communicator_, [&] {
        scratch = core::Buffer<float>(reducer_->fills_parameters() ? 0 : network_->layout().arena_size());
    });
    const auto receive = [&](std::span<float> arena) {
        communicator_.broadcast(reducer_->fills_parameters() ? arena : scratch.values());
    };
    receive(parameters());
    std::ranges::for_each(states(), receive);
    reducer_->publish();
}

void Replica::descend(std::int64_t step, const Notice& notice) {
    const std::int64_t epoch = step / sampler_->steps_per_epoch();
    const std::int64_t step_in_epoch = step % sampler_->steps_per_epoch();
    batch_samples_ = sampler_->batch_samples(step_in_epoch);

    timer_.enter(core::Phase::data, step);
    if (epoch != sampler_->epoch()) {
        sampler_->start_epoch(epoch);
    }
    const data::Batch batch = loader_->select(*sampler_, step_in_epoch);
    const nn::Draw draw{config_.model.seed, static_cast<std::uint32_t>(epoch), dataset_.train.local.begin,
                        batch.samples};
    descent_->descend(step, batch, draw, notice);
    timer_.enter(core::Phase::other, step + 1);
}

void Replica::require_finite(std::int64_t step) const {
    mpi::together(communicator_, [&] {
        if (!descent_->parameters_finite()) {
            throw core::Error(core::ExitCode::diverged,
                              fmt::format("training diverged: a parameter is not finite after step {} with learning "
                                          "rate {}; the checkpoints written before stay",
                                          step, last_learning_rate(step)));
        }
    });
}

} // namespace dtrain::train
