#include "dtrain/train/local_descent.hpp"

#include "dtrain/nn/parameters.hpp"

#include <algorithm>
#include <array>

namespace dtrain::train {

std::size_t LocalDescent::Sizes::exchanged() const noexcept {
    constexpr std::size_t unit = nn::ParameterLayout::alignment;
    return averaged() + (2 * static_cast<std::size_t>(most_steps) + unit - 1) / unit * unit;
}

LocalDescent::LocalDescent(const Sizes& sizes, std::size_t local_shards, std::size_t most_added_up,
                           kernels::Products& products)
    : sizes_(sizes), gradient_(sizes.arena), gradient_sums_({{0, 1}}, {gradient_.values()}, most_added_up, products),
      states_(sizes.states) {
    for (std::size_t s = 0; s < local_shards; ++s) {
        shards_.emplace_back(sizes.exchanged());
    }
}

void LocalDescent::begin(std::span<const float> common) {
    for (const core::Buffer<float>& shard : shards_) {
        std::ranges::copy(common.first(sizes_.averaged()), shard.data());
        std::ranges::fill(shard.values().subspan(sizes_.averaged()), 0.0F);
    }
    steps_ = 0;
    has_begun_ = true;
}

bool LocalDescent::descend(nn::Network<float>& network, const nn::Cost<float>& cost, optim::Optimizer& optimizer,
                           const data::Batch& batch, const nn::Draw& draw, optim::Step step,
                           const std::function<void(core::Phase)>& enter) {
    bool finite = true;
    for (std::size_t s = 0; s < shards_.size(); ++s) {
        const std::size_t first = batch.offsets[s];
        const std::size_t rows = batch.offsets[s + 1] - first;
        if (rows == 0) { // as in an epoch's last step
            continue;
        }
        const std::span<float> vector = shards_[s].values();
        const std::span<float> parameters = vector.first(sizes_.arena);
        for (std::size_t i = 0; i < states_.size(); ++i) {
            states_[i] = vector.subspan((1 + i) * sizes_.arena, sizes_.arena);
        }
        const core::MatrixView<const float> x = batch.x.block(first, rows);
        const std::array<std::size_t, 2> offsets{0, rows};
        nn::Draw own_draw = draw;
        own_draw.samples = batch.samples.subspan(first, rows);

        enter(core::Phase::forward);
        const core::MatrixView<const float> outputs = network.forward(parameters, {offsets, &own_draw}, x);
        const std::span<const std::uint8_t> labels = batch.labels.subspan(first, rows);
        vector[sizes_.cost_at(steps_)] = static_cast<float>(cost(outputs, labels, network.output_gradient(rows)));
        vector[sizes_.correct_at(steps_)] = static_cast<float>(model::count_correct(outputs, labels));
        enter(core::Phase::backward);
        network.backward(parameters, offsets, x, gradient_sums_);
        enter(core::Phase::update);
        step.gradient_scale = 1.0 / static_cast<double>(rows);
        finite &= optimizer.update(parameters, gradient_.values(), states_, step);
    }
    ++steps_;
    return finite;
}

void LocalDescent::contribute(nn::ShardGradients<float>& sums) {
    for (std::size_t begin = (sizes_.exchanged() - 1) / piece * piece;; begin -= piece) {
        sums.add_up(begin, std::min(piece, sizes_.exchanged() - begin), [&](std::size_t shard, std::span<float> out) {
            std::ranges::copy(shards_[shard].values().subspan(begin, out.size()), out.begin());
        });
        if (begin == 0) {
            break;
        }
    }
    has_begun_ = false;
}

void LocalDescent::average(parallel::GradientReducer& reducer, std::int64_t shards) const {
    const auto averaged = static_cast<std::int64_t>(sizes_.averaged());
    const float share = 1.0F / static_cast<float>(shards);
    for (core::Range left = reducer.slice(); !left.empty();) {
        const auto [block, sum] = reducer.sum_block(left.begin);
        for (std::int64_t i = block.begin; i < block.end; ++i) {
            reducer.parameters()[static_cast<std::size_t>(i)] =
                sum[static_cast<std::size_t>(i - block.begin)] * (i < averaged ? share : 1.0F);
        }
        left.begin = block.end;
    }
}

double LocalDescent::cost(std::size_t shard) const noexcept {
    double sum = 0;
    for (std::size_t i = 0; i < steps_; ++i) {
        sum += static_cast<double>(shards_[shard].data()[sizes_.cost_at(i)]);
    }
    return sum;
}

std::size_t LocalDescent::bytes() const noexcept {
    return (shards_.size() * sizes_.exchanged() + sizes_.arena) * sizeof(float);
}

} // namespace dtrain::train
