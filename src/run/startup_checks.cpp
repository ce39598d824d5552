#include "dtrain/run/startup_checks.hpp"

#include "dtrain/core/host_name.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
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

} // namespace

Crowd find_crowd(std::span<const CoreSet> allowed, int threads_per_rank, int host_cores) {
    Crowd worst;
    for (const CoreSet& cores : allowed) {
        Crowd crowd{0, static_cast<int>(cores.count()), static_cast<int>(cores._Find_first()), host_cores};
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
    const bool bound = crowd.cores < crowd.host_cores;
    const bool too_many_ranks = crowd.ranks > crowd.cores;
    std::string text = fmt::format("{} on {}{}", ranks_of_threads(crowd.ranks, threads_per_rank), host,
                                   more_hosts > 0 ? fmt::format(" (and {} more are crowded)", more_hosts) : "");
    if (bound) {
        text += fmt::format(" may run only on {} of its {} cores ({} {})", crowd.cores, crowd.host_cores,
                            crowd.cores == 1 ? "number" : "from number", crowd.first_core);
    } else {
        text += fmt::format(", which has {} core{}", crowd.cores, crowd.cores == 1 ? "" : "s");
    }
    text += ": they take turns, and every step waits for the last; ";
    if (bound && too_many_ranks) {
        text += fmt::format(
            "mpirun --bind-to core --map-by {} gives each rank cores of its own, --bind-to none all of them",
            threads_per_rank == 1 ? "core" : fmt::format("slot:PE={}", threads_per_rank));
    } else if (bound) {
        text += fmt::format("mpirun --bind-to core --map-by slot:PE={} gives each rank as many as it has threads, "
                            "or set parallel.blas_threads = {}",
                            threads_per_rank, crowd.cores / crowd.ranks);
    } else if (too_many_ranks) {
        text +=
            fmt::format("start at most {} on each host that is like it", std::max(1, crowd.cores / threads_per_rank));
    } else {
        text += fmt::format("set parallel.blas_threads = {}, or start fewer ranks", crowd.cores / crowd.ranks);
    }
    return text;
}

std::optional<std::string> find_crowded_host(const mpi::Communicator& communicator, int threads_per_rank) {
    const mpi::Communicator node = communicator.split_by_node();
    const CoreSet own = own_cores();
    const std::vector<std::byte> bytes = node.gather_all(std::as_bytes(std::span(&own, 1)));
    std::vector<CoreSet> allowed(static_cast<std::size_t>(node.size()));
    std::ranges::copy(bytes, std::as_writable_bytes(std::span(allowed)).begin());
    const Crowd crowd = find_crowd(allowed, threads_per_rank, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));

    // One rank speaks for each host.
    const std::array<int, 4> own_crowd{node.is_root() ? crowd.ranks : 0, crowd.cores, crowd.first_core,
                                       crowd.host_cores};
    const core::HostName own_host = core::host_name();
    const std::vector<int> crowds = communicator.gather_all(std::span<const int>(own_crowd));
    const std::vector<char> hosts = communicator.gather_all(std::span<const char>(own_host));
    Crowd worst;
    std::string host;
    int crowded = 0;
    for (std::size_t rank = 0; rank < static_cast<std::size_t>(communicator.size()); ++rank) {
        const Crowd other{crowds[4 * rank], crowds[4 * rank + 1], crowds[4 * rank + 2], crowds[4 * rank + 3]};
        if (other.ranks > 0) {
            ++crowded;
            if (pressure(other) > pressure(worst)) {
                worst = other;
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
                       "unless other programs use these cores, the batch is too small for more than {} rank{}; a "
                       "larger training.batch_size keeps more busy",
                       exchange_seconds_ * microseconds, compute_seconds_ * microseconds, even, even == 1 ? "" : "s");
}

} // namespace dtrain::run
