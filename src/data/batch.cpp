#include "dtrain/data/batch.hpp"

#include "dtrain/kernels/prefetch.hpp"

#include <algorithm>
#include <utility>

namespace dtrain::data {

BatchLoader::BatchLoader(const Split& split, std::size_t max_rows, std::size_t local_shards,
                         std::optional<Augmenter> augmenter)
    : split_(split), augmenter_(std::move(augmenter)), x_(max_rows * split.sample_size), labels_(max_rows),
      rows_(max_rows), next_rows_(max_rows), offsets_(local_shards + 1), next_offsets_(local_shards + 1) {}

BatchLoader::~BatchLoader() {
    kernels::PrefetchQueue::of_this_thread() = {};
}

std::size_t BatchLoader::bytes() const noexcept {
    return x_.size() * sizeof(float) + (augmenter_ ? augmenter_->bytes() : 0);
}

Batch BatchLoader::load(const Sampler& sampler, std::int64_t step) {
    const std::size_t count = sampler.select(step, rows_, offsets_);
    const core::MatrixView<float> x = x_.matrix(count, split_.sample_size);
    for (std::size_t n = 0; n < count; ++n) {
        split_.fetch(rows_[n], x.row(n));
        if (augmenter_) {
            augmenter_->distort(x.row(n), sampler.epoch(), split_.local.begin + rows_[n]);
        }
        labels_[n] = split_.labels.data()[rows_[n]];
    }
    if (step + 1 < sampler.steps_per_epoch()) {
        const std::size_t next = sampler.select(step + 1, next_rows_, next_offsets_);
        kernels::PrefetchQueue::of_this_thread() = {split_.elements.data(), split_.sample_bytes(),
                                                    std::span(next_rows_).first(std::min(next, most_prefetched))};
    }
    return {x, std::span(labels_).first(count), offsets_, std::span(rows_).first(count)};
}

} // namespace dtrain::data
