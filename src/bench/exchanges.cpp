#include "dtrain/bench/measurements.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"

#include <algorithm>
#include <functional>
#include <memory>

namespace dtrain::bench {
namespace {

using Clock = core::PhaseTimer::Clock;

/// An exchange and the memory from which it reads the gradients.
struct Contestant {
    std::string name;
    std::span<float> gradients;
    std::function<void()> exchange;
    std::vector<double> seconds;
};

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

void exchange(parallel::GradientReducer& reducer) {
    reducer.arrive();
    reducer.combine();
    for (core::Range left = reducer.slice(); !left.empty();) {
        const auto [range, sum] = reducer.sum_block(left.begin);
        std::ranges::copy(sum, reducer.parameters().begin() + range.begin);
        left.begin = range.end;
    }
    reducer.publish();
}

} // namespace

std::vector<ExchangeMeasurement> measure_exchanges(std::size_t parameters, const config::Config& config,
                                                   const mpi::Communicator& communicator) {
    parallel::ReducerSettings settings;
    settings.parameters = parameters;
    settings.shards = communicator.size(); // one subtree per rank, so that only the exchange is timed
    settings.ranks_per_node = config.parallel.ranks_per_node;
    for (int rank = 0; rank < communicator.size(); ++rank) {
        settings.shards_of_rank.push_back({rank, rank + 1});
    }
    core::Buffer<float> bare(parameters);
    std::vector<std::unique_ptr<parallel::GradientReducer>> reducers;
    std::vector<Contestant> contestants;
    contestants.push_back({"MPI_Allreduce", bare.values(), [&] { communicator.sum(bare.values()); }, {}});
    for (const std::string& name : parallel::reducer_names()) {
        if (name == "auto") {
            continue; // it stands for one of the others
        }
        settings.compressed = config.parallel.compressed && parallel::can_compress(name);
        reducers.push_back(parallel::make_reducer(name, settings, communicator));
        parallel::GradientReducer& reducer = *reducers.back();
        contestants.push_back({name, reducer.gradients(0), [&reducer] { exchange(reducer); }, {}});
    }

    // Runs as many rounds as fit into half a second. It checks the time only after each portion of rounds, because the
    // check is collective. If ranks share cores, an exchange may take milliseconds.
    constexpr double max_seconds = 0.5;
    constexpr std::size_t portion = 9;
    constexpr std::size_t max_rounds = 111 * portion;
    const auto start = Clock::now();
    std::size_t rounds = 0;
    double spent = 0;
    do {
        for (std::size_t end = rounds + portion; rounds < end; ++rounds) {
            for (Contestant& contestant : contestants) {
                // Puts the gradients into the cache of the rank that wrote them, as a backward pass does.
                std::ranges::fill(contestant.gradients, 1.0F);
                communicator.barrier();
                const auto begin = Clock::now();
                contestant.exchange();
                contestant.seconds.push_back(seconds_since(begin));
            }
        }
        spent = seconds_since(start);
        spent = std::ranges::max(communicator.gather_all(std::span<const double>(&spent, 1)));
    } while (rounds < max_rounds && spent < max_seconds);

    std::vector<ExchangeMeasurement> results;
    const auto ranks = static_cast<double>(communicator.size());
    for (Contestant& contestant : contestants) {
        // A round ends when the last rank has the sum.
        const std::vector<double> all = communicator.gather_all(std::span<const double>(contestant.seconds));
        for (std::size_t i = 0; i < all.size(); ++i) {
            double& seconds = contestant.seconds[i % rounds];
            seconds = std::max(seconds, all[i]);
        }
        const Spread seconds = spread_of(contestant.seconds);
        results.push_back({contestant.name, seconds,
                           2 * (ranks - 1) / ranks * static_cast<double>(parameters * sizeof(float)) / seconds.median});
    }
    return results;
}

} // namespace dtrain::bench
