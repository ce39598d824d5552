#pragma once

#include "dtrain/core/partition.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::data {

/// Selects the samples of each training step, as a pure function of (seed, epoch, step). So the number of ranks and
/// restarts do not change the selection.
///
/// The training set is cut into `shards` contiguous parts. Each part gets its own random order in each epoch. Place k
/// of an epoch belongs to shard k mod `shards`, and a step takes the next `batch_size` places. So every sample is used
/// exactly once per epoch, and the numbers of samples per shard in a step differ by at most one. The last step of an
/// epoch takes the rest and may be smaller.
class Sampler {
  public:
    /// `local_shards` are the shards of this rank. A `batch_size` of 0, or above `samples`, means the whole training
    /// set.
    Sampler(std::int64_t samples, std::int64_t shards, std::int64_t batch_size, std::uint64_t seed,
            core::Range local_shards);

    [[nodiscard]] std::int64_t steps_per_epoch() const noexcept;
    /// The number of samples in step `step` of an epoch, over all ranks.
    [[nodiscard]] std::int64_t batch_samples(std::int64_t step) const noexcept;
    /// The maximum number of rows of this rank in a step.
    [[nodiscard]] std::int64_t max_local_rows() const noexcept;
    /// The maximum number of rows of a shard in a step, and the minimum in a whole batch.
    [[nodiscard]] std::int64_t max_shard_rows() const noexcept { return (batch_size_ + shards_ - 1) / shards_; }
    [[nodiscard]] std::int64_t min_shard_rows() const noexcept { return batch_size_ / shards_; }

    /// Draws the random order of the local samples for `epoch` (counted from 0).
    void start_epoch(std::int64_t epoch);
    [[nodiscard]] std::int64_t epoch() const noexcept { return epoch_; } ///< the epoch of the last start_epoch()

    /// Selects this rank's rows of step `step` of the current epoch and returns their number. rows[i] is a sample
    /// number, counted from the rank's first sample. The rows of local shard s are offsets[s] to offsets[s + 1] - 1.
    /// `rows` needs max_local_rows() elements, `offsets` needs local_shards.size() + 1.
    std::size_t select(std::int64_t step, std::span<std::uint32_t> rows, std::span<std::size_t> offsets) const noexcept;

  private:
    /// The number of places that belong to `shard` among the first `places` places of an epoch.
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
    std::vector<std::uint32_t> order_; ///< the local samples, sorted by shard; within a shard in random order
};

} // namespace dtrain::data
