#pragma once

#include "dtrain/mpi/communicator.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace dtrain::mpi {

/// Memory that the ranks of one node share: each rank brings a zeroed segment of its own and reads and writes those of
/// the others directly. Ordering between ranks is up to atomics inside the window. A segment stays as long as any rank
/// has it, and no longer, however the ranks end.
class SharedWindow {
  public:
    /// Collective. The ranks of `node` are those of one machine, as Communicator::split_by_node has them. Throws
    /// core::Error (bad_config), which is to end the job, on a rank that gets no memory, or not that of the others.
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
