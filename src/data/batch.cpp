#include "dtrain/data/batch.hpp"

namespace dtrain::data {
namespace {

/// Samples come from all over the data set, so that each row would begin with a miss of every cache.
constexpr std::size_t prefetch_distance = 8;

void prefetch(std::span<const std::uint8_t> bytes) {
    constexpr std::size_t line = 64;
    for (std::size_t i = 0; i < bytes.size(); i += line) {
        __builtin_prefetch(bytes.data() + i);
    }
}

} // namespace

BatchLoader::BatchLoader(const Split& split, std::size_t max_rows, std::size_t local_shards)
    : split_(split), x_(max_rows * split.sample_size), labels_(max_rows), rows_(max_rows), offsets_(local_shards + 1) {}

Batch BatchLoader::load(const Sampler& sampler, std::int64_t step) {
    const std::size_t count = sampler.select(step, rows_, offsets_);
    const core::MatrixView<float> x = x_.matrix(count, split_.sample_size);
    for (std::size_t n = 0; n < count; ++n) {
        if (n + prefetch_distance < count) {
            prefetch(split_.sample(rows_[n + prefetch_distance]));
        }
        to_unit_interval(split_.sample(rows_[n]), x.row(n));
        labels_[n] = split_.labels.data()[rows_[n]];
    }
    return {x, std::span(labels_).first(count), offsets_};
}

} // namespace dtrain::data
