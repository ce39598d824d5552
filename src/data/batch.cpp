#include "dtrain/data/batch.hpp"

#include "dtrain/core/memory_book.hpp"

#include <algorithm>
#include <utility>

namespace dtrain::data {

BatchLoader::BatchLoader(const Split& split, std::size_t max_rows, std::size_t max_fetched, std::size_t local_shards,
                         std::optional<Augmenter> augmenter)
    : split_(split), augmenter_(std::move(augmenter)) {
    core::MemoryBook book;
    book.grant(max_fetched * split.sample_size, x_);
    book.grant(max_rows, labels_, rows_, next_rows_);
    book.grant(local_shards + 1, offsets_, next_offsets_);
}

Batch BatchLoader::select(const Sampler& sampler, std::int64_t step) {
    const std::size_t count = sampler.select(step, rows_.values(), offsets_.values());
    for (std::size_t n = 0; n < count; ++n) {
        labels_.data()[n] = split_.labels.data()[rows_.data()[n]];
    }
    std::size_t next = 0;
    if (step + 1 < sampler.steps_per_epoch()) {
        next = sampler.select(step + 1, next_rows_.values(), next_offsets_.values());
    }
    return {sampler.epoch(), labels_.values().first(count), offsets_.values(), rows_.values().first(count),
            next_rows_.values().first(next)};
}

core::MatrixView<const float> BatchLoader::fetch(const Batch& batch, std::size_t first, std::size_t count) {
    const core::MatrixView<float> x = x_.matrix(count, split_.sample_size);
    for (std::size_t n = 0; n < count; ++n) {
        const std::uint32_t sample = batch.samples[first + n];
        split_.fetch(sample, x.row(n));
        if (augmenter_) {
            augmenter_->augment(x.row(n), batch.epoch, split_.local.begin + sample);
        }
    }
    return x;
}

kernels::PrefetchQueue BatchLoader::prefetch_after(const Batch& batch, std::size_t end) const noexcept {
    const std::span<const std::uint32_t> rows =
        end < batch.samples.size() ? batch.samples.subspan(end) : batch.upcoming;
    return {split_.elements.data(), split_.sample_bytes(), rows.first(std::min(rows.size(), max_prefetched))};
}

} // namespace dtrain::data
