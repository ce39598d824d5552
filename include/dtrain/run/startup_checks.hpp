#pragma once

#include "dtrain/io/run_record.hpp"
#include "dtrain/mpi/communicator.hpp"

#include <bitset>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace dtrain::run {

// Warnings of what usually makes MPI runs slow.

/// Cores by their numbers, those that a rank may run on. What the system counts: two where a core runs two threads.
using CoreSet = std::bitset<8192>;

/// Ranks of one host that have fewer cores than threads.
struct Crowd {
    int ranks = 0;      ///< 0 if there are no such ranks
    int cores = 0;      ///< that they may run on
    int first_core = 0; ///< the lowest of these
    int host_cores = 0;
    int host_ranks = 0;
    bool bound_by_mpirun = false; ///< as against taskset, a batch system or a container, or not at all
};

/// The ranks that have the fewest cores per thread; `allowed` says for each rank of a host where it may run. Looks at
/// the ranks within each rank's set, which finds all there is where sets are equal, nested or disjoint, as those of
/// cores, sockets and hosts are.
[[nodiscard]] Crowd find_crowd(std::span<const CoreSet> allowed, int threads_per_rank, int host_cores);

/// What is wrong and what helps, as far as it is possible there.
[[nodiscard]] std::string describe(const Crowd& crowd, int threads_per_rank, const std::string& host, int more_hosts);

/// Collective: a warning, the same on every rank, of the most crowded host.
[[nodiscard]] std::optional<std::string> find_crowded_host(const mpi::Communicator& communicator, int threads_per_rank);

/// Finds out whether a run exchanges gradients for longer than it computes them.
class ExchangeCheck {
  public:
    /// `whole_batches`: each batch is the whole training set, and cannot be larger.
    explicit ExchangeCheck(bool whole_batches) : whole_batches_(whole_batches) {}
    /// Adds steps, and what each rank spent them on. As soon as there are enough to judge by, returns what is to be
    /// said, and never again.
    [[nodiscard]] std::optional<std::string> add(std::int64_t steps, std::span<const io::PhaseSeconds> ranks);

  private:
    static constexpr std::int64_t enough_steps = 50;
    bool whole_batches_;
    std::int64_t steps_ = 0;
    double compute_seconds_ = 0;
    double exchange_seconds_ = 0;
    bool done_ = false;
};

} // namespace dtrain::run
