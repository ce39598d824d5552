#pragma once

#include "dtrain/core/partition.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace dtrain::nn {

/// The rows of a step on one rank, shard after shard: those of local shard s are offsets[s] to offsets[s + 1].
using ShardOffsets = std::span<const std::size_t>;

/// Rows of a step that a network works on at once.
struct MicroBatch {
    std::size_t first_row = 0;
    ShardOffsets rows;      ///< of the shards below, counted from first_row
    core::Range shards;     ///< local ones
    bool continues = false; ///< the first of these has rows in the micro-batch before
    bool goes_on = false;   ///< the last of these has rows in the next one

    [[nodiscard]] std::size_t size() const noexcept { return rows.back(); }
};

/// Cuts the rows of a step into micro-batches, whose activations fit caches and memory. A shard is cut between groups
/// of `group_rows` only, as its weight gradients are added up by these.
class MicroBatches {
  public:
    /// Of up to `most_rows` rows, at least group_rows, and `most_shards` shards.
    MicroBatches(std::size_t most_rows, std::size_t most_shards);

    /// Calls action(micro_batch) from the first row to the last, at least once.
    template <class Action>
    void for_each(ShardOffsets shards, Action&& action) {
        MicroBatch micro_batch = next(shards, {}, shards.front());
        for (action(micro_batch); !is_last(micro_batch, shards); action(micro_batch)) {
            micro_batch = next(shards, micro_batch, micro_batch.first_row + micro_batch.size());
        }
    }

  private:
    [[nodiscard]] static bool is_last(const MicroBatch& micro_batch, ShardOffsets shards) noexcept {
        return static_cast<std::size_t>(micro_batch.shards.end) == shards.size() - 1 && !micro_batch.goes_on;
    }
    [[nodiscard]] MicroBatch next(ShardOffsets shards, const MicroBatch& last, std::size_t row) noexcept;

    std::size_t most_rows_;
    std::vector<std::size_t> rows_;
};

} // namespace dtrain::nn
