#pragma once

#include "dtrain/mpi/communicator.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace dtrain::train {

/// Bytes of memory that a rank is going to have, item by item. What the ranks of a node have in common is the first
/// one's.
struct MemoryUse {
    /// What it has already, MPI, libraries, labels, orders of samples, scratch of products, and what comes to that in
    /// time, of threads and page tables.
    std::size_t program = 0;
    std::size_t samples = 0;
    std::size_t parameters = 0;  ///< and optimizer state
    std::size_t gradients = 0;   ///< partial sums of them, and what shards have of their own in local SGD
    std::size_t activations = 0; ///< of the rows that are worked on at once, and these themselves
    std::size_t checkpoints = 0; ///< while they are written
    std::size_t shared = 0;      ///< what of these, of parameters and gradients, other ranks map as well

    [[nodiscard]] std::size_t total() const noexcept {
        return program + samples + parameters + gradients + activations + checkpoints;
    }
};

/// Memory that several ranks share, or that one has to itself.
struct MemoryRoom {
    std::string owner;       ///< and a verb: "the control group allows"
    std::size_t bytes = 0;   ///< of it
    std::size_t taken = 0;   ///< by what all who share it need
    std::size_t sharing = 1; ///< ranks

    /// To each of these beyond what they need.
    [[nodiscard]] std::size_t left() const noexcept { return (bytes - (taken < bytes ? taken : bytes)) / sharing; }
};

/// Collective: what bounds the memory of this rank, the machine, the control groups that ranks are in, and ulimits,
/// where each rank needs what it says.
[[nodiscard]] std::vector<MemoryRoom> find_rooms(const MemoryUse& own, const mpi::Communicator& communicator);

/// "47.2 MB samples, ...", without what is not known yet.
[[nodiscard]] std::string describe(const MemoryUse& use);
/// Collective: memory of rank 0, item by item, and of the others, as one or two lines of text.
[[nodiscard]] std::string describe_memory(const MemoryUse& own, const mpi::Communicator& communicator);

} // namespace dtrain::train
