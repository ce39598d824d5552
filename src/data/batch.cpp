#include "dtrain/data/batch.hpp"

#include <algorithm>
#include <utility>

namespace dtrain::data {

BatchLoader::BatchLoader(const Split& split, std::size_t max_rows, std::size_t local_shards,
                         std::optional<Augmenter> augmenter)
    : split_(split), augmenter_(std::move(augmenter)) {
    book_.grant(max_rows * split.sample_size, x_);
    book_.grant(max_rows, labels_, rows_, next_rows_);
    book_.grant(local_shards + 1, offsets_, next_offsets_);
}

std::size_t BatchLoader::bytes() const noexcept {
    return book_.bytes() + (augmenter_ ? augmenter_->bytes() : 0);
}

Batch BatchLoader::load(const Sampler& sampler, std::int64_t step) {
    const std::span<std::uint32_t> rows = rows_.values();
    const std::span<std::uint8_t> labels = labels_.values();
    const std::size_t count = sampler.select(step, rows, offsets_.values());
    const core::MatrixView<float> x = x_.matrix(count, split_.sample_size);
    for (std::size_t n = 0; n < count; ++n) {
        split_.fetch(rows[n], x.row(n));
        if (augmenter_) {
            augmenter_->distort(x.row(n), sampler.epoch(), split_.local.begin + rows[n]);
        }
        labels[n] = split_.labels.data()[rows[n]];
    }
    kernels::PrefetchQueue upcoming;
    if (step + 1 < sampler.steps_per_epoch()) {
        const std::size_t next = sampler.select(step + 1, next_rows_.values(), next_offsets_.values());
        upcoming = {split_.elements.data(), split_.sample_bytes(),
                    next_rows_.values().first(std::min(next, most_prefetched))};
    }
    return {x, labels.first(count), offsets_.values(), rows.first(count), upcoming};
}

} // namespace dtrain::data
