#pragma once

#include "dtrain/mpi/communicator.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace dtrain::mpi {

/// Shared memory for the ranks of one node. Each rank adds one segment, filled with zeros, and can access the segments
/// of all ranks directly. Use atomics inside the segments to synchronise ranks. The system frees a segment when the
/// last rank that uses it ends, even if ranks are killed.
class SharedWindow {
  public:
    /// Collective. The ranks of `node` must be on one machine (Communicator::split_by_node). `bytes` is the size of
    /// this rank's segment and may differ between ranks. Throws core::Error (bad_config) on a rank that gets no memory
    /// or cannot access the memory of the others. Not all ranks throw, so this error must end the job.
    SharedWindow(const Communicator& node, std::size_t bytes);

    /// The segment of `rank`, aligned to a cache line.
    [[nodiscard]] std::span<std::byte> segment(int rank) const noexcept {
        return segments_[static_cast<std::size_t>(rank)].bytes;
    }

  private:
    struct Segment {
        std::shared_ptr<std::byte> memory;
        std::span<std::byte> bytes;
    };
    std::vector<Segment> segments_; ///< by rank
};

} // namespace dtrain::mpi
