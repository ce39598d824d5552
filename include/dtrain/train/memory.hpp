#pragma once

#include "dtrain/mpi/communicator.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace dtrain::train {

/// Bytes of memory that a rank will use, by item. Memory that the ranks of a node share counts for the first of them.
struct MemoryUse {
    /// Memory already in use (MPI, libraries, labels, orders of samples, scratch memory of products), and an estimate
    /// for threads and page tables.
    std::size_t program = 0;
    std::size_t samples = 0;
    std::size_t reading = 0;     ///< while samples are read, before later() is allocated
    std::size_t parameters = 0;  ///< parameters and optimizer state
    std::size_t gradients = 0;   ///< gradients and their partial sums, and the vectors of shards in local SGD
    std::size_t activations = 0; ///< activations and inputs of the rows that are processed at once
    std::size_t checkpoints = 0; ///< while checkpoints are written
    std::size_t shared = 0;      ///< the part of parameters and gradients that other ranks map as well

    [[nodiscard]] std::size_t later() const noexcept { return parameters + gradients + activations + checkpoints; }
    [[nodiscard]] std::size_t total() const noexcept { return program + samples + std::max(reading, later()); }
};

/// Memory that several ranks share, or that one has to itself.
struct MemoryRoom {
    std::string owner;       ///< noun and verb: "the control group allows"
    std::size_t bytes = 0;   ///< the limit
    std::size_t taken = 0;   ///< what all ranks that share the limit need
    std::size_t sharing = 1; ///< number of ranks that share the limit

    /// Bytes left for each of these ranks.
    [[nodiscard]] std::size_t left() const noexcept { return (bytes - (taken < bytes ? taken : bytes)) / sharing; }
};

/// Collective: the limits on the memory of this rank: of the machine, of the control groups, and of ulimit. `own`: what
/// this rank needs.
[[nodiscard]] std::vector<MemoryRoom> find_rooms(const MemoryUse& own, const mpi::Communicator& communicator);

/// "47.2 MB samples, ...", without items of 0 bytes.
[[nodiscard]] std::string describe(const MemoryUse& use);
/// Collective: the memory of rank 0 by item, and the max of the other ranks, as one or two lines of text.
[[nodiscard]] std::string describe_memory(const MemoryUse& own, const mpi::Communicator& communicator);

} // namespace dtrain::train
