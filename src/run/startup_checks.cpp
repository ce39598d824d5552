#include "dtrain/run/startup_checks.hpp"

#include "dtrain/core/host_name.hpp"
#include "dtrain/train/description.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdlib>
#include <limits>

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

/// Ranks per core.
double pressure(const Crowd& crowd) {
    return crowd.cores == 0 ? 0 : static_cast<double>(crowd.ranks) / crowd.cores;
}

std::string ranks_of(int ranks) {
    return train::format_count(ranks, "rank");
}

std::string ranks_of_threads(int ranks, int threads) {
    return threads == 1 ? ranks_of(ranks)
                        : fmt::format("{} with {} threads{}", ranks_of(ranks), threads, ranks == 1 ? "" : " each");
}

/// Advice that gives the ranks more cores, if they are bound to a part of the host. Ends with ", or "; empty if there
/// is no such advice.
std::string on_other_cores(const Crowd& crowd, int threads) {
    if (crowd.cores >= crowd.host_cores) {
        return "";
    }
    if (!crowd.bound_by_mpirun) {
        return "remove what binds them (not mpirun: taskset, or the limits of a batch job or a container), or ";
    }
    const int cores_per_rank = std::min(threads, crowd.host_cores / crowd.host_ranks);
    if (cores_per_rank * crowd.ranks <= crowd.cores) {
        return "";
    }
    const std::string unit = cores_per_rank == 1 ? "core" : fmt::format("slot:PE={}", cores_per_rank);
    return fmt::format(
        "use mpirun --bind-to core --map-by {} without taskset, which gives each rank {} of its own{}, or ", unit,
        cores_per_rank == 1 ? "a core" : fmt::format("{} cores", cores_per_rank),
        cores_per_rank < threads ? fmt::format(", enough for parallel.threads = {}", cores_per_rank) : "");
}

/// Advice for the cores that the ranks have. There always is some.
std::string on_these_cores(const Crowd& crowd, int threads) {
    const std::string fewer_ranks =
        fmt::format("use at most {} on this host", ranks_of(crowd.cores / std::min(threads, crowd.cores)));
    if (crowd.ranks > crowd.cores) {
        return threads <= crowd.cores
                   ? fewer_ranks
                   : fmt::format("set parallel.threads = 1 and use at most {} on this host", ranks_of(crowd.cores));
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
    std::string text =
        fmt::format("{} share{} ", ranks_of_threads(crowd.ranks, threads_per_rank), crowd.ranks == 1 ? "s" : "");
    if (crowd.cores < crowd.host_cores) {
        text += fmt::format("{} of the {} cores on {} (core {}{})", crowd.cores, crowd.host_cores, host,
                            crowd.first_core, crowd.cores == 1 ? "" : " and others");
    } else {
        text += fmt::format("{} on {}", train::format_count(crowd.cores, "core"), host);
    }
    if (more_hosts > 0) {
        text += fmt::format(", and {} {} too many threads as well", train::format_count(more_hosts, "other host"),
                            more_hosts == 1 ? "has" : "have");
    }
    std::string advice = on_other_cores(crowd, threads_per_rank) + on_these_cores(crowd, threads_per_rank);
    advice.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(advice.front())));
    return text + ", so training will be slow. " + advice;
}

std::optional<std::string> find_crowded_host(const mpi::Communicator& communicator, int threads_per_rank) {
    const mpi::Communicator node = communicator.split_by_node();
    const CoreSet own = own_cores();
    const std::vector<std::byte> bytes = node.gather_all(std::as_bytes(std::span(&own, 1)));
    std::vector<CoreSet> allowed(static_cast<std::size_t>(node.size()));
    std::ranges::copy(bytes, std::as_writable_bytes(std::span(allowed)).begin());
    Crowd crowd = find_crowd(allowed, threads_per_rank, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
    crowd.ranks = node.is_root() ? crowd.ranks : 0; // one rank reports for each host
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

std::vector<std::string> find_unlikely_settings(const train::Plan& plan) {
    std::vector<std::string> warnings;
    const auto& layers = plan.network().layers();
    const nn::Shape& shape = plan.header(data::Set::train).sample_shape;
    constexpr std::size_t most_colours = 4;
    if (shape.size() == 3 && layers.front()->output_shape().size() == 3 && shape[2] <= most_colours &&
        shape[0] > most_colours) {
        warnings.push_back(
            fmt::format("samples of {} are taken as channels x height x width. If they are height x width "
                        "x channels, store them as samples.transpose(0, 3, 1, 2)",
                        nn::to_string(shape)));
    }
    constexpr std::int64_t few_samples = 8; // statistics of fewer are mostly noise
    const std::int64_t samples = plan.sampler().batch_samples(0) / plan.config().parallel.logical_shards;
    const auto has_few = [&](const auto& layer) {
        return layer->output_shape().size() == 1 && layer->description().starts_with("batchnorm");
    };
    if (samples < few_samples && std::ranges::any_of(layers, has_few)) {
        warnings.push_back(fmt::format("batchnorm after a dense layer has {} of each logical shard for its mean and "
                                       "variance, which are then mostly "
                                       "noise. Raise training.batch_size, or lower parallel.logical_shards",
                                       train::format_count(samples, "sample")));
    }
    return warnings;
}

std::optional<std::string> ExchangeCheck::add(std::int64_t steps, std::span<const io::PhaseSeconds> ranks) {
    if (done_ || ranks.size() < 2) {
        return std::nullopt;
    }
    // The slowest rank waits for no other rank: its exchange time is the min over ranks, and is the true cost.
    const auto number = static_cast<double>(ranks.size());
    double min_exchange = std::numeric_limits<double>::infinity();
    for (const io::PhaseSeconds& rank : ranks) {
        compute_seconds_ += rank.compute / number;
        min_exchange = std::min(min_exchange, rank.reduce + rank.wait);
    }
    exchange_seconds_ += min_exchange;
    steps_ += steps;
    if (steps_ < enough_steps) {
        return std::nullopt;
    }
    done_ = true;
    if (exchange_seconds_ <= compute_seconds_) {
        return std::nullopt;
    }
    // Computing shrinks in proportion to the ranks and exchanging stays the same. At `even` ranks both take equally
    // long.
    const auto even =
        std::max<std::int64_t>(1, static_cast<std::int64_t>(number * compute_seconds_ / exchange_seconds_));
    const double microseconds = 1e6 / static_cast<double>(steps_);
    return fmt::format("exchanging gradients takes longer than computing them: {:.0f} us and {:.0f} us of a step. "
                       "{} use at most {}, if no other program uses these cores",
                       exchange_seconds_ * microseconds, compute_seconds_ * microseconds,
                       whole_batches_ ? "The batch is the whole training set:" : "Raise training.batch_size, or",
                       ranks_of(static_cast<int>(even)));
}

} // namespace dtrain::run
