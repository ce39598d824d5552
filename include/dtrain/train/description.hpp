#pragma once

#include "dtrain/train/replica.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dtrain::train {

// What a replica tells its user.

/// "1 epoch", "3 epochs"
[[nodiscard]] std::string count_of(std::int64_t number, std::string_view what);

/// What is about to be trained on what, as text of several lines.
[[nodiscard]] std::string describe(const Replica& replica);

/// Bytes of memory of this rank, item by item.
struct MemoryUse {
    std::size_t samples = 0;
    std::size_t parameters = 0; ///< and optimizer state
    std::size_t gradients = 0;  ///< what they are exchanged by, and what shards have of their own in local SGD
    std::size_t activations = 0;

    [[nodiscard]] std::size_t total() const noexcept { return samples + parameters + gradients + activations; }
};
[[nodiscard]] MemoryUse memory_of(const Replica& replica);

/// Collective: memory of rank 0, item by item, and of the others, as text of several lines. While checkpoints are
/// written there is `checkpoint_bytes` more. Walks once through the shared memory that a step uses, so that it is
/// counted as that of this process; parameters and state stay as they are.
[[nodiscard]] std::string describe_memory(const Replica& replica, std::size_t checkpoint_bytes);

} // namespace dtrain::train
