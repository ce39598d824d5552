#pragma once

#include "dtrain/core/partition.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::data {

/// Which samples make up which descent step, as a pure function of (seed, epoch, step): neither the number of ranks
/// nor the place of a restart changes it.
///
/// The training set is cut into `shards` contiguous parts, each with its own random order per epoch. Place k of an
/// epoch belongs to shard k mod shards, and a step takes the next `batch_size` places, so that every sample is visited
/// exactly once per epoch and the shards' shares of a step differ by at most one; the last step takes what is left.
class Sampler {
  public:
    /// `local_shards` are those whose samples this rank holds.
    Sampler(std::int64_t samples, std::int64_t shards, std::int64_t batch_size, std::uint64_t seed,
            core::Range local_shards);

    [[nodiscard]] std::int64_t steps_per_epoch() const noexcept;
    /// Samples of step `step` of an epoch, over all ranks.
    [[nodiscard]] std::int64_t batch_samples(std::int64_t step) const noexcept;
    /// The most rows that this rank ever has in a step.
    [[nodiscard]] std::int64_t max_local_rows() const noexcept;

    /// Draws the order of the samples of `epoch` (from 0) for the local shards.
    void start_epoch(std::int64_t epoch);
    [[nodiscard]] std::int64_t epoch() const noexcept { return epoch_; } ///< the one begun last

    /// The rows of this rank in step `step` of the epoch begun: `rows[i]` is a sample number counted from the rank's
    /// first, those of local shard s at offsets[s] to offsets[s + 1]. Returns the number of rows. `rows` has at least
    /// max_local_rows() elements and `offsets` local_shards + 1.
    std::size_t select(std::int64_t step, std::span<std::uint32_t> rows, std::span<std::size_t> offsets) const noexcept;

  private:
    /// How many of the first `places` places of an epoch belong to `shard`.
    [[nodiscard]] std::int64_t places_of_shard(std::int64_t places, std::int64_t shard) const noexcept {
        return core::partition(places, shards_, shard).size();
    }
    [[nodiscard]] std::int64_t first_place(std::int64_t step) const noexcept;

    std::int64_t samples_;
    std::int64_t shards_;
    std::int64_t batch_size_;
    std::uint64_t seed_;
    core::Range local_shards_;
    std::int64_t epoch_ = -1;
    std::vector<std::uint32_t> order_; ///< the local samples, shard after shard, each shard's in its own order
};

} // namespace dtrain::data
