#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/memory_book.hpp"
#include "dtrain/data/augment.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/data/sampler.hpp"
#include "dtrain/kernels/prefetch.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace dtrain::data {

/// This rank's rows of one descent step.
struct Batch {
    core::MatrixView<const float> x;        ///< rows × elements of a sample
    std::span<const std::uint8_t> labels;   ///< one per row
    std::span<const std::size_t> offsets;   ///< rows of local shard s: offsets[s] to offsets[s + 1]
    std::span<const std::uint32_t> samples; ///< of each row, counted from the rank's first
    kernels::PrefetchQueue upcoming;        ///< the next batch's samples, to be fetched while this one is worked on
};

/// Fetches batches into memory of its own, which the next call reuses, and distorts their samples if asked to.
class BatchLoader {
  public:
    /// `split` has to outlive the loader.
    BatchLoader(const Split& split, std::size_t max_rows, std::size_t local_shards,
                std::optional<Augmenter> augmenter = std::nullopt);

    [[nodiscard]] std::size_t bytes() const noexcept; ///< of a batch and what makes it

    [[nodiscard]] Batch load(const Sampler& sampler, std::int64_t step);

  private:
    /// More would push the present batch out of the second-level cache.
    static constexpr std::size_t most_prefetched = 512;
    const Split& split_;
    std::optional<Augmenter> augmenter_;
    core::MemoryBook book_;
    core::Buffer<float> x_;
    core::Buffer<std::uint8_t> labels_;
    core::Buffer<std::uint32_t> rows_, next_rows_;
    core::Buffer<std::size_t> offsets_, next_offsets_;
};

} // namespace dtrain::data
