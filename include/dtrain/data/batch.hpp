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

/// Which rows of one descent step are this rank's.
struct Batch {
    std::int64_t epoch = 0;
    std::span<const std::uint8_t> labels;    ///< one per row
    std::span<const std::size_t> offsets;    ///< rows of local shard s: offsets[s] to offsets[s + 1]
    std::span<const std::uint32_t> samples;  ///< of each row, counted from the rank's first
    std::span<const std::uint32_t> upcoming; ///< the first ones of the next batch
};

/// Chooses batches and fetches their rows into memory of its own, which the next call reuses, and distorts their
/// samples if asked to.
class BatchLoader {
  public:
    /// For batches of up to `max_rows` rows, of which up to `max_fetched` are fetched at once. `split` has to outlive
    /// the loader.
    BatchLoader(const Split& split, std::size_t max_rows, std::size_t max_fetched, std::size_t local_shards,
                std::optional<Augmenter> augmenter = std::nullopt);

    [[nodiscard]] Batch select(const Sampler& sampler, std::int64_t step);
    /// count × elements of a sample: rows `first` and what follows of the batch selected last.
    [[nodiscard]] core::MatrixView<const float> fetch(const Batch& batch, std::size_t first, std::size_t count);
    /// What is fetched behind row `end`, to be brought near while the rows before are worked on.
    [[nodiscard]] kernels::PrefetchQueue behind(const Batch& batch, std::size_t end) const noexcept;

  private:
    /// More would push the present rows out of the second-level cache.
    static constexpr std::size_t most_prefetched = 512;
    const Split& split_;
    std::optional<Augmenter> augmenter_;
    core::Buffer<float> x_;
    core::Buffer<std::uint8_t> labels_;
    core::Buffer<std::uint32_t> rows_, next_rows_;
    core::Buffer<std::size_t> offsets_, next_offsets_;
};

} // namespace dtrain::data
