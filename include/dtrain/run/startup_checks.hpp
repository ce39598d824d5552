#pragma once

#include "dtrain/io/run_record.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/train/plan.hpp"

#include <bitset>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dtrain::run {

// Warnings about the usual causes of slow MPI runs and of low accuracy.

/// The cores that a rank may run on, by number. These are logical CPUs: a core with two hardware threads counts twice.
using CoreSet = std::bitset<8192>;

/// Ranks of one host that together have more threads than cores.
struct Crowd {
    int ranks = 0;      ///< 0 if there are no such ranks
    int cores = 0;      ///< number of cores that they may run on
    int first_core = 0; ///< the lowest number of these cores
    int host_cores = 0;
    int host_ranks = 0;
    bool bound_by_mpirun = false; ///< false: bound by taskset, a batch system or a container, or not bound
};

/// The ranks with the fewest cores per thread. `allowed` has the cores of each rank of a host. The function compares
/// each rank's set with the ranks whose sets it contains. This finds every crowd if sets are equal, nested or disjoint,
/// as sets of cores, sockets and hosts are.
[[nodiscard]] Crowd find_crowd(std::span<const CoreSet> allowed, int threads_per_rank, int host_cores);

/// The problem and the advice that is possible on that host. `more_hosts`: other hosts with the same problem.
[[nodiscard]] std::string describe(const Crowd& crowd, int threads_per_rank, const std::string& host, int more_hosts);

/// Collective: a warning about the most crowded host, the same on every rank, or nothing.
[[nodiscard]] std::optional<std::string> find_crowded_host(const mpi::Communicator& communicator, int threads_per_rank);

/// Warnings about settings that are valid and probably not what the user wants.
[[nodiscard]] std::vector<std::string> find_unlikely_settings(const train::Plan& plan);

/// Checks whether a run spends more time on exchanging gradients than on computing them.
class ExchangeCheck {
  public:
    /// `whole_batches`: each batch is the whole training set, so it cannot be raised.
    explicit ExchangeCheck(bool whole_batches) : whole_batches_(whole_batches) {}
    /// Adds the times of `steps` steps, by rank. Returns a warning at most once, as soon as there are enough steps.
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
