#include "dtrain/model/evaluator.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace dtrain::model {

std::size_t predicted_class(std::span<const float> outputs) noexcept {
    return static_cast<std::size_t>(std::ranges::max_element(outputs) - outputs.begin());
}

std::int64_t count_correct(core::MatrixView<const float> outputs, std::span<const std::uint8_t> labels) noexcept {
    std::int64_t correct = 0;
    for (std::size_t n = 0; n < outputs.rows; ++n) {
        const std::span<const float> row = outputs.row(n);
        const float own = row[labels[n]];
        std::size_t not_less = 0; // one comparison per output and no branches, as this is part of every step
        for (const float value : row) {
            not_less += value < own ? 0 : 1;
        }
        // A count of 1 is the label's own output: it is the largest, without a tie.
        correct += not_less == 1 || (!std::isnan(own) && predicted_class(row) == labels[n]) ? 1 : 0;
    }
    return correct;
}

Evaluator::Evaluator(nn::Network<float>& network, std::string_view cost, const data::Split& split)
    : network_(network), cost_(nn::find_cost<float>(cost)), split_(split), x_(evaluation_rows * split.sample_size) {}

void Evaluator::visit(std::span<const float> parameters, core::Range part, const Visitor& visitor) {
    for (std::int64_t first = part.begin; first < part.end; first += evaluation_rows) {
        const auto rows = std::min(evaluation_rows, static_cast<std::size_t>(part.end - first));
        const core::MatrixView<float> x = x_.matrix(rows, split_.sample_size);
        for (std::size_t n = 0; n < rows; ++n) {
            split_.fetch(first + static_cast<std::int64_t>(n), x.row(n));
        }
        const std::array<std::size_t, 2> shard{0, rows};
        visitor(first, network_.forward(parameters, {shard}, x));
    }
}

double Evaluator::cost(std::int64_t first, core::MatrixView<const float> outputs) const {
    return cost_(outputs, split_.labels.values().subspan(static_cast<std::size_t>(first), outputs.rows), {}, 0);
}

Score Evaluator::score(std::span<const float> parameters, std::int64_t shards, core::Range local_shards,
                       const mpi::Communicator& communicator) {
    // Only one rank fills the element of a shard. The others add zeros, which is exact in any order.
    std::vector<double> costs(static_cast<std::size_t>(shards));
    std::vector<std::int64_t> correct(1);
    for (std::int64_t shard = local_shards.begin; shard < local_shards.end; ++shard) {
        const core::Range samples = core::partition(split_.total, shards, shard);
        const core::Range part{samples.begin - split_.local.begin, samples.end - split_.local.begin};
        visit(parameters, part, [&](std::int64_t first, core::MatrixView<const float> outputs) {
            costs[static_cast<std::size_t>(shard)] += cost(first, outputs);
            correct[0] +=
                count_correct(outputs, split_.labels.values().subspan(static_cast<std::size_t>(first), outputs.rows));
        });
    }
    communicator.sum(std::span(costs));
    communicator.sum(std::span(correct));
    const auto total = static_cast<double>(split_.total);
    return {std::accumulate(costs.begin(), costs.end(), 0.0) / total, static_cast<double>(correct[0]) / total};
}

} // namespace dtrain::model
