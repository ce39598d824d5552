#pragma once

#include "dtrain/core/partition.hpp"

#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace dtrain::nn {

/// The rows of a step on one rank, sorted by shard. The rows of local shard s are offsets[s] to offsets[s + 1] - 1.
using ShardOffsets = std::span<const std::size_t>;

/// The rows of a step that a network processes in one call.
struct MicroBatch {
    std::size_t first_row = 0;
    ShardOffsets rows;                ///< the rows of `shards`, counted from first_row
    core::Range shards;               ///< local shards with rows in this micro-batch
    bool begins_inside_shard = false; ///< the first shard also has rows in the previous micro-batch
    bool ends_inside_shard = false;   ///< the last shard also has rows in the next micro-batch

    [[nodiscard]] std::size_t size() const noexcept { return rows.back(); }
};

/// Cuts the rows of a step into micro-batches so that their activations fit into caches and memory. A shard is cut only
/// after a multiple of `unit` rows, because weight gradients are summed that many rows at a time.
class MicroBatches {
  public:
    /// A `unit` that cuts no shard. No shard may then have more than `max_rows` rows.
    static constexpr std::size_t whole_shards = std::numeric_limits<std::size_t>::max();

    /// For steps of up to `max_shards` local shards. A micro-batch has up to `max_rows` rows, at least `unit`.
    MicroBatches(std::size_t max_rows, std::size_t max_shards, std::size_t unit);

    /// Calls action(micro_batch) for all micro-batches in the order of the rows, at least once.
    template <class Action>
    void for_each(ShardOffsets shards, Action&& action) {
        MicroBatch micro_batch = next(shards, {}, shards.front());
        for (action(micro_batch); !is_last(micro_batch, shards); action(micro_batch)) {
            micro_batch = next(shards, micro_batch, micro_batch.first_row + micro_batch.size());
        }
    }

  private:
    [[nodiscard]] static bool is_last(const MicroBatch& micro_batch, ShardOffsets shards) noexcept {
        return static_cast<std::size_t>(micro_batch.shards.end) == shards.size() - 1 && !micro_batch.ends_inside_shard;
    }
    [[nodiscard]] MicroBatch next(ShardOffsets shards, const MicroBatch& last, std::size_t row) noexcept;

    std::size_t unit_;
    std::size_t max_rows_;
    std::vector<std::size_t> rows_;
};

} // namespace dtrain::nn
