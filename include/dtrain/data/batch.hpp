#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/data/augment.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/data/sampler.hpp"
#include "dtrain/kernels/prefetch.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace dtrain::data {

/// This rank's rows of a training step.
struct Batch {
    std::int64_t epoch = 0;
    std::span<const std::uint8_t> labels;    ///< one per row
    std::span<const std::size_t> offsets;    ///< the rows of local shard s are offsets[s] to offsets[s + 1] - 1
    std::span<const std::uint32_t> samples;  ///< the sample of each row, counted from the rank's first sample
    std::span<const std::uint32_t> upcoming; ///< the same for the next batch of the epoch; empty after the last one
};

/// Selects batches and fetches their rows into its own memory, which later calls reuse. Applies augmentation if there
/// is an augmenter. Nothing is collective.
class BatchLoader {
  public:
    /// For batches of up to `max_rows` rows. A call of fetch() gets up to `max_fetched` rows. `split` must outlive the
    /// loader.
    BatchLoader(const Split& split, std::size_t max_rows, std::size_t max_fetched, std::size_t local_shards,
                std::optional<Augmenter> augmenter = std::nullopt);

    /// Selects the batch of step `step` of the sampler's epoch. The result is valid until the next call.
    [[nodiscard]] Batch select(const Sampler& sampler, std::int64_t step);
    /// Rows [first, first + count) of the batch that was selected last, count × elements of a sample. Valid until the
    /// next call.
    [[nodiscard]] core::MatrixView<const float> fetch(const Batch& batch, std::size_t first, std::size_t count);
    /// The samples that are fetched after row `end`, so that they can be prefetched while earlier rows are processed.
    [[nodiscard]] kernels::PrefetchQueue prefetch_after(const Batch& batch, std::size_t end) const noexcept;

  private:
    /// More rows would evict the current rows from the second-level cache.
    static constexpr std::size_t max_prefetched = 512;
    const Split& split_;
    std::optional<Augmenter> augmenter_;
    core::Buffer<float> x_;
    core::Buffer<std::uint8_t> labels_;
    core::Buffer<std::uint32_t> rows_, next_rows_;
    core::Buffer<std::size_t> offsets_, next_offsets_;
};

} // namespace dtrain::data
