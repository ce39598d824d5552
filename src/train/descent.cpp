#include "dtrain/train/descent.hpp"

#include "dtrain/core/shard_tree.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/train/exact_descent.hpp"
#include "dtrain/train/local_descent.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace dtrain::train {
namespace {

/// The most elements that are added up at once along the tree, unless micro-batches keep partial sums.
std::size_t largest_sum(const nn::Network<float>& network, bool compressed) {
    return std::max({parallel::tail_size, network.max_added_up(),
                     compressed ? nn::ShardGradients<float>::max_portion(network.layout()) : 0});
}

/// Gradients with one arena for each subtree of shards that this rank adds up.
nn::ShardGradients<float> gradients_of(const Tools& tools, std::size_t max_added_up, bool in_parts) {
    std::vector<std::span<float>> arenas;
    for (std::size_t i = 0; i < tools.reducer.subtrees().size(); ++i) {
        arenas.push_back(tools.reducer.gradients(i));
    }
    return {tools.reducer.subtrees(), arenas, std::max(max_added_up, largest_sum(tools.network, tools.compressed)),
            in_parts, tools.compressed ? tools.network.layout().arena_size() : 0};
}

} // namespace

Descent::Descent(const Tools& tools, std::size_t max_added_up, bool in_parts)
    : tools_(tools),
      micro_batches_(tools.max_rows, tools.local_shards,
                     tools.network.mixes_samples() ? nn::MicroBatches::whole_shards
                                                   : std::max(nn::group_rows, tools.products.cut_unit())),
      gradients_(gradients_of(tools, max_added_up, in_parts)), shard_totals_(tools.local_shards) {
    if (tools_.reducer.overlaps()) {
        gradients_.report_to([this](std::size_t begin) { tools_.reducer.report_final(begin); });
    }
}

void Descent::add_gradients(std::int64_t step, const data::Batch& batch, nn::ShardOffsets offsets, const nn::Draw& draw,
                            std::span<const float> parameters, nn::ShardGradients<float>& gradients,
                            std::span<parallel::StepTotals> totals) {
    micro_batches_.for_each(offsets, [&](const nn::MicroBatch& part) {
        tools_.timer.enter(core::Phase::data, step);
        const core::MatrixView<const float> x = tools_.loader.fetch(batch, part.first_row, part.size());
        nn::Draw own_draw = draw;
        own_draw.samples = draw.samples.subspan(part.first_row, part.size());

        tools_.timer.enter(core::Phase::forward, step);
        tools_.products.prefetch_during_products(tools_.loader.prefetch_after(batch, part.first_row + part.size()));
        const core::MatrixView<const float> outputs = tools_.network.forward(parameters, {part.rows, &own_draw}, x);
        const core::MatrixView<float> output_gradient = tools_.network.output_gradient(x.rows);
        for (std::size_t s = 0; s + 1 < part.rows.size(); ++s) {
            const std::size_t first = part.rows[s];
            const std::size_t rows = part.rows[s + 1] - first;
            const core::MatrixView<const float> own = outputs.block(first, rows);
            const std::span<const std::uint8_t> labels = batch.labels.subspan(part.first_row + first, rows);
            parallel::StepTotals& shard = totals[static_cast<std::size_t>(part.shards.begin) + s];
            shard.cost = tools_.cost(own, labels, output_gradient.block(first, rows), shard.cost);
            shard.correct += model::count_correct(own, labels);
        }

        tools_.timer.enter(core::Phase::backward, step);
        gradients.begin(part);
        tools_.network.backward(parameters, part.rows, x, gradients);
    });
}

void Descent::exchange(std::int64_t step, const Notice& notice, std::string_view where) {
    parallel::StepTotals& first = shard_totals_.front(); // carries the flags of its rank
    first.stop_requests = notice.stop_requested ? 1 : 0;
    first.output_failures = notice.output_failed ? 1 : 0;
    first.non_finite = parameters_finite_ ? 0 : 1;
    gradients_.begin_all_rows();
    gradients_.add_up(
        tools_.reducer.parameters().size(), parallel::tail_size,
        [this](std::size_t shard, std::span<float> tail, bool) { parallel::write_totals(shard_totals_[shard], tail); });
    tools_.timer.enter(core::Phase::wait, step);
    tools_.reducer.arrive();
    tools_.timer.enter(core::Phase::reduce, step);
    tools_.reducer.combine();
    totals_ = parallel::read_totals(tools_.reducer.tail());
    if (const auto problem = totals_.divergence()) {
        throw mpi::AgreedError(
            core::ExitCode::diverged,
            fmt::format("training diverged: {} {} (epoch {}) {} with learning rate {}. Earlier checkpoints stay valid; "
                        "try a smaller learning rate",
                        where, step + 1, step / tools_.sampler.steps_per_epoch() + 1, *problem,
                        tools_.schedule.rate(std::max<std::int64_t>(step - 1, 0))));
    }
}

model::Score Descent::score(double cost, std::int64_t correct, std::int64_t step) const {
    const auto samples = static_cast<double>(tools_.sampler.batch_samples(step % tools_.sampler.steps_per_epoch()));
    return {cost / samples, static_cast<double>(correct) / samples};
}

nn::Extent rows_at_once(const config::Config& config, const data::Sampler& sampler, std::size_t local_shards) {
    const auto rows = static_cast<std::size_t>(sampler.max_local_rows());
    // With local SGD each shard has its own parameters, so one shard is processed at a time.
    return config.parallel.sync_every > 1 ? nn::Extent::of(rows / local_shards, 1) : nn::Extent::of(rows, local_shards);
}

ExchangeSizes exchange_sizes(const config::Config& config, const nn::ParameterLayout& layout,
                             const optim::Optimizer& optimizer, const data::Sampler& sampler) {
    const std::size_t states = optimizer.state_names().size();
    if (config.parallel.sync_every > 1) {
        return {LocalDescent::Layout(config, layout.arena_size(), states, sampler.steps_per_epoch()).exchanged(), 0};
    }
    return {layout.arena_size(), states};
}

std::size_t descent_bytes(const config::Config& config, const nn::Network<float>& network,
                          const parallel::ReducerSettings& exchange, core::Range local_shards, bool in_parts) {
    std::size_t levels = 0;
    for (const core::Range& subtree : core::complete_subtrees(exchange.shards, local_shards)) {
        levels = std::max(levels, std::ranges::max(core::levels_of_leaves(subtree)));
    }
    const bool local = config.parallel.sync_every > 1;
    std::size_t values = levels * (in_parts && !local ? exchange.parameters + parallel::tail_size
                                                      : largest_sum(network, exchange.compressed));
    if (local) {
        values += static_cast<std::size_t>(local_shards.size()) * exchange.parameters + network.layout().arena_size();
    }
    return values * sizeof(float);
}

std::unique_ptr<Descent> make_descent(const config::Config& config, const Tools& tools) {
    if (config.parallel.sync_every > 1) {
        return std::make_unique<LocalDescent>(config, tools);
    }
    return std::make_unique<ExactDescent>(tools);
}

} // namespace dtrain::train
