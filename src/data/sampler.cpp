#include "dtrain/data/sampler.hpp"

#include "dtrain/core/random.hpp"
#include "dtrain/data/dataset.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace dtrain::data {

Sampler::Sampler(std::int64_t samples, std::int64_t shards, std::int64_t batch_size, std::uint64_t seed,
                 core::Range local_shards)
    : samples_(samples), shards_(shards), batch_size_(std::min(batch_size == 0 ? samples : batch_size, samples)),
      seed_(seed), local_shards_(local_shards),
      order_(static_cast<std::size_t>(samples_of_shards(samples, shards, local_shards).size())) {}

std::int64_t Sampler::steps_per_epoch() const noexcept {
    return (samples_ + batch_size_ - 1) / batch_size_;
}

std::int64_t Sampler::first_place(std::int64_t step) const noexcept {
    return std::min(step * batch_size_, samples_);
}

std::int64_t Sampler::batch_samples(std::int64_t step) const noexcept {
    return first_place(step + 1) - first_place(step);
}

std::int64_t Sampler::max_local_rows() const noexcept {
    return (batch_size_ + shards_ - 1) / shards_ * local_shards_.size();
}

void Sampler::start_epoch(std::int64_t epoch) {
    epoch_ = epoch;
    std::iota(order_.begin(), order_.end(), 0U);
    const std::int64_t first_sample = core::partition(samples_, shards_, local_shards_.begin).begin;
    for (std::int64_t shard = local_shards_.begin; shard < local_shards_.end; ++shard) {
        const core::Range part = core::partition(samples_, shards_, shard);
        const std::span<std::uint32_t> order(order_.data() + (part.begin - first_sample),
                                             static_cast<std::size_t>(part.size()));
        core::RandomStream random(seed_, core::Purpose::sample_order, static_cast<std::uint32_t>(epoch),
                                  static_cast<std::uint64_t>(shard));
        for (std::size_t left = order.size(); left > 1; --left) { // Fisher-Yates shuffle
            std::swap(order[left - 1], order[random.below(static_cast<std::uint32_t>(left))]);
        }
    }
}

std::size_t Sampler::select(std::int64_t step, std::span<std::uint32_t> rows,
                            std::span<std::size_t> offsets) const noexcept {
    const std::int64_t from = first_place(step);
    const std::int64_t to = first_place(step + 1);
    const std::int64_t first_sample = core::partition(samples_, shards_, local_shards_.begin).begin;
    std::size_t filled = 0;
    for (std::int64_t shard = local_shards_.begin; shard < local_shards_.end; ++shard) {
        offsets[static_cast<std::size_t>(shard - local_shards_.begin)] = filled;
        const std::uint32_t* const order =
            order_.data() + (core::partition(samples_, shards_, shard).begin - first_sample);
        const std::int64_t end = places_of_shard(to, shard);
        for (std::int64_t place = places_of_shard(from, shard); place < end; ++place) {
            rows[filled++] = order[place];
        }
    }
    offsets[static_cast<std::size_t>(local_shards_.size())] = filled;
    return filled;
}

} // namespace dtrain::data
