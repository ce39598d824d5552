#include "dtrain/run/startup_checks.hpp"

#include "dtrain/core/host_name.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <vector>

namespace dtrain::run {
namespace {

CoreSet own_cores() {
    std::array<cpu_set_t, CoreSet().size() / CPU_SETSIZE> mask{};
    CoreSet cores;
    if (sched_getaffinity(0, sizeof mask, mask.data()) == 0) {
        for (std::size_t core = 0; core < cores.size(); ++core) {
            cores[core] = CPU_ISSET_S(core, sizeof mask, mask.data());
        }
    }
    return cores;
}

/// Of how many cores the crowd is short, as a ratio.
double pressure(const Crowd& crowd) {
    return crowd.cores == 0 ? 0 : static_cast<double>(crowd.ranks) / crowd.cores;
}

std::string ranks_of_threads(int ranks, int threads) {
    const std::string text = fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s");
    return threads == 1 ? text : fmt::format("{} of {} threads", text, threads);
}

/// What gives ranks more cores that may run on a part of the host alone; empty, or with "or" behind.
std::string on_other_cores(const Crowd& crowd, int threads) {
    if (crowd.cores >= crowd.host_cores) {
        return "";
    }
    if (!crowd.bound_by_mpirun) {
        return "mpirun has not bound them: take away what does (taskset, the limits of a batch job or a container), "
               "or ";
    }
    const int cores_per_rank = std::min(threads, crowd.host_cores / crowd.host_ranks);
    if (cores_per_rank * crowd.ranks <= crowd.cores) {
        return "";
    }
    const std::string unit = cores_per_rank == 1 ? "core" : fmt::format("slot:PE={}", cores_per_rank);
    return fmt::format(
        "mpirun --bind-to core --map-by {}, with no taskset behind it, gives each rank {} of its own{}; or ", unit,
        cores_per_rank == 1 ? "a core" : fmt::format("{} cores", cores_per_rank),
        cores_per_rank < threads ? fmt::format(", enough for parallel.threads = {}", cores_per_rank) : "");
}

/// What helps on the cores that they have, which is always possible.
std::string on_these_cores(const Crowd& crowd, int threads) {
    const std::string fewer_ranks =
        fmt::format("start at most {} on each host that is like it", crowd.cores / std::min(threads, crowd.cores));
    if (crowd.ranks > crowd.cores) {
        return threads <= crowd.cores
                   ? fewer_ranks
                   : fmt::format("set parallel.threads = 1 and start at most {} on each host that is like it",
                                 crowd.cores);
    }
    return fmt::format("set parallel.threads = {}{}", crowd.cores / crowd.ranks,
                       crowd.ranks > 1 && threads <= crowd.cores ? ", or " + fewer_ranks : "");
}

} // namespace

Crowd find_crowd(std::span<const CoreSet> allowed, int threads_per_rank, int host_cores) {
    Crowd worst;
    for (const CoreSet& cores : allowed) {
        Crowd crowd{0, static_cast<int>(cores.count()), static_cast<int>(cores._Find_first()), host_cores,
                    static_cast<int>(allowed.size())};
        for (const CoreSet& others : allowed) {
            crowd.ranks += (others & ~cores).none() ? 1 : 0;
        }
        if (crowd.ranks * threads_per_rank > crowd.cores && pressure(crowd) > pressure(worst)) {
            worst = crowd;
        }
    }
    return worst;
}

std::string describe(const Crowd& crowd, int threads_per_rank, const std::string& host, int more_hosts) {
    std::string text = fmt::format("{} on {}{}", ranks_of_threads(crowd.ranks, threads_per_rank), host,
                                   more_hosts > 0 ? fmt::format(" (and {} more are crowded)", more_hosts) : "");
    if (crowd.cores < crowd.host_cores) {
        text += fmt::format(" may run only on {} of its {} cores ({} {})", crowd.cores, crowd.host_cores,
                            crowd.cores == 1 ? "number" : "from number", crowd.first_core);
    } else {
        text += fmt::format(", which has {} core{}", crowd.cores, crowd.cores == 1 ? "" : "s");
    }
    return text + ": they take turns, and every step waits for the last; " + on_other_cores(crowd, threads_per_rank) +
           on_these_cores(crowd, threads_per_rank);
}

std::optional<std::string> find_crowded_host(const mpi::Communicator& communicator, int threads_per_rank) {
    const mpi::Communicator node = communicator.split_by_node();
    const CoreSet own = own_cores();
    const std::vector<std::byte> bytes = node.gather_all(std::as_bytes(std::span(&own, 1)));
    std::vector<CoreSet> allowed(static_cast<std::size_t>(node.size()));
    std::ranges::copy(bytes, std::as_writable_bytes(std::span(allowed)).begin());
    Crowd crowd = find_crowd(allowed, threads_per_rank, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
    crowd.ranks = node.is_root() ? crowd.ranks : 0; // one rank speaks for each host
    crowd.bound_by_mpirun = std::getenv("OMPI_MCA_orte_bound_at_launch") != nullptr;

    const core::HostName own_host = core::host_name();
    const std::vector<std::byte> crowd_bytes = communicator.gather_all(std::as_bytes(std::span(&crowd, 1)));
    std::vector<Crowd> crowds(static_cast<std::size_t>(communicator.size()));
    std::ranges::copy(crowd_bytes, std::as_writable_bytes(std::span(crowds)).begin());
    const std::vector<char> hosts = communicator.gather_all(std::span<const char>(own_host));
    Crowd worst;
    std::string host;
    int crowded = 0;
    for (std::size_t rank = 0; rank < static_cast<std::size_t>(communicator.size()); ++rank) {
        if (crowds[rank].ranks > 0) {
            ++crowded;
            if (pressure(crowds[rank]) > pressure(worst)) {
                worst = crowds[rank];
                host = hosts.data() + rank * own_host.size();
            }
        }
    }
    if (crowded == 0) {
        return std::nullopt;
    }
    return describe(worst, threads_per_rank, host, crowded - 1);
}

std::optional<std::string> ExchangeCheck::add(std::int64_t steps, std::span<const io::PhaseSeconds> ranks) {
    if (done_ || ranks.size() < 2) {
        return std::nullopt;
    }
    // The rank that the others wait for has the least of waiting in its exchange.
    const auto number = static_cast<double>(ranks.size());
    double least_exchange = std::numeric_limits<double>::infinity();
    for (const io::PhaseSeconds& rank : ranks) {
        compute_seconds_ += rank.compute / number;
        least_exchange = std::min(least_exchange, rank.reduce + rank.wait);
    }
    exchange_seconds_ += least_exchange;
    steps_ += steps;
    if (steps_ < enough_steps) {
        return std::nullopt;
    }
    done_ = true;
    if (exchange_seconds_ <= compute_seconds_) {
        return std::nullopt;
    }
    // More ranks share the same computing, and exchange as much: both take as long at this number of them.
    const auto even =
        std::max<std::int64_t>(1, static_cast<std::int64_t>(number * compute_seconds_ / exchange_seconds_));
    const double microseconds = 1e6 / static_cast<double>(steps_);
    return fmt::format("exchanging gradients takes longer than computing them, {:.0f} us of a step beside {:.0f} us: "
                       "unless other programs use these cores, the batch is too small for more than {} rank{}; {}",
                       exchange_seconds_ * microseconds, compute_seconds_ * microseconds, even, even == 1 ? "" : "s",
                       whole_batches_ ? "it is the whole training set, so start fewer"
                                      : "a larger training.batch_size keeps more busy");
}

} // namespace dtrain::run
