#include "dtrain/nn/micro_batch.hpp"

#include <algorithm>

namespace dtrain::nn {

MicroBatches::MicroBatches(std::size_t max_rows, std::size_t max_shards, std::size_t unit)
    : unit_(unit), max_rows_(unit == whole_shards ? max_rows : std::max(max_rows, unit)), rows_(max_shards + 1) {}

MicroBatch MicroBatches::next(ShardOffsets shards, const MicroBatch& last, std::size_t row) noexcept {
    MicroBatch next;
    next.first_row = row;
    next.begins_inside_shard = last.ends_inside_shard;
    std::size_t shard = static_cast<std::size_t>(last.shards.end) - (last.ends_inside_shard ? 1 : 0);
    next.shards.begin = static_cast<std::int64_t>(shard);
    std::size_t count = 0;
    rows_[0] = 0;
    while (shard + 1 < shards.size() && shards[shard + 1] - row <= max_rows_) {
        rows_[++count] = shards[++shard] - row;
    }
    if (shard + 1 < shards.size()) { // not all rows of this shard fit
        const std::size_t units = (max_rows_ - rows_[count]) / unit_;
        if (units > 0) {
            rows_[count + 1] = rows_[count] + units * unit_;
            ++count;
            ++shard;
            next.ends_inside_shard = true;
        }
    }
    next.shards.end = static_cast<std::int64_t>(shard);
    next.rows = std::span(rows_).first(count + 1);
    return next;
}

} // namespace dtrain::nn
