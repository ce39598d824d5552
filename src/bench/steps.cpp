#include "dtrain/bench/measurements.hpp"
#include "dtrain/core/error.hpp"
#include "dtrain/core/memory.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/model/build.hpp"

#include <algorithm>
#include <cmath>

namespace dtrain::bench {

Spread spread_of(std::vector<double> values) {
    std::ranges::sort(values);
    const std::size_t middle = values.size() / 2;
    const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
    return {median, values.front(), values.back()};
}

namespace {

using Clock = core::PhaseTimer::Clock;
constexpr double block_seconds = 0.3;

/// Runs consecutive steps, across epochs.
class Stepper {
  public:
    Stepper(train::Replica& replica, const mpi::Communicator& communicator)
        : replica_(replica), communicator_(communicator) {}

    struct Block {
        double seconds = 0; ///< of the slowest rank
        std::int64_t steps = 0;
        std::int64_t samples = 0;
    };
    /// Runs at least `steps` steps. With local SGD it runs complete rounds.
    Block run(std::int64_t steps) {
        Block block;
        communicator_.barrier();
        replica_.timer().enter(core::Phase::other, step_);
        replica_.timer().reset();
        const auto begin = Clock::now();
        while (block.steps < steps || !replica_.descent().is_synchronised()) {
            replica_.descend(step_++, {});
            ++block.steps;
            block.samples += replica_.batch_samples();
        }
        const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
        block.seconds = std::ranges::max(communicator_.gather_all(std::span<const double>(&seconds, 1)));
        return block;
    }

  private:
    train::Replica& replica_;
    const mpi::Communicator& communicator_;
    std::int64_t step_ = 0;
};

/// Measures the speed of `Product`, and compares steps with it.
template <class Product>
class PeakMeter {
  public:
    explicit PeakMeter(const mpi::Communicator& communicator) : communicator_(communicator) {
        (void)product_.flops(communicator); // warm-up
    }
    /// Collective. `flops` are those per second of a block of steps.
    void measure(double flops) {
        const double own = product_.flops(communicator_);
        double all = 0;
        for (const double other : communicator_.gather_all(std::span<const double>(&own, 1))) {
            all += other;
        }
        peaks_.push_back(all);
        fractions_.push_back(flops / all);
    }
    [[nodiscard]] Peak result() const { return {product_.name(), spread_of(peaks_), spread_of(fractions_)}; }

  private:
    const mpi::Communicator& communicator_;
    Product product_;
    std::vector<double> peaks_;
    std::vector<double> fractions_;
};

/// The config that an alternative stands for.
config::Config changed_by(const Alternative& alternative, config::Config config) {
    (alternative.key == "products" ? config.parallel.products : config.training.precision) = alternative.value;
    return config;
}

/// Every other engine for products and the other precision, without those that the config excludes.
std::vector<Alternative> alternatives_to(const config::Config& config) {
    std::vector<Alternative> all;
    for (const std::string& engine : kernels::product_names()) {
        if (engine != config.parallel.products) {
            all.push_back({"products", engine, {}, {}});
        }
    }
    all.push_back({"precision", config.training.precision == "bfloat16" ? "float32" : "bfloat16", {}, {}});
    std::erase_if(all, [&](const Alternative& alternative) {
        try {
            model::check_products(changed_by(alternative, config));
            return false;
        } catch (const core::Error&) {
            return true;
        }
    });
    return all;
}

} // namespace

StepMeasurement measure_steps(train::Replica& replica, StepPlan plan, const mpi::Communicator& communicator) {
    const auto ranks = static_cast<std::size_t>(communicator.size());
    std::int64_t& steps = plan.steps;
    StepMeasurement result;
    Stepper stepper(replica, communicator);
    stepper.run(1);
    for (std::int64_t warm_up = 1; steps == 0; warm_up *= 2) {
        const double seconds = stepper.run(warm_up).seconds;
        if (seconds > block_seconds / 3) {
            steps = std::max<std::int64_t>(1, std::llround(block_seconds * static_cast<double>(warm_up) / seconds));
        }
    }
    result.blocks = plan.blocks;
    result.steps_per_block = steps;
    const auto resident = static_cast<double>(core::peak_resident_bytes()); // before sgemm allocates its matrices
    result.resident_bytes = std::ranges::max(communicator.gather_all(std::span(&resident, 1)));

    std::optional<PeakMeter<Sgemm>> sgemm;
    std::optional<PeakMeter<Bfloat16Gemm>> bfloat16;
    if (plan.with_peaks) {
        sgemm.emplace(communicator);
        bfloat16.emplace(communicator);
    }
    std::vector<double> rates, flops;
    std::array<std::vector<std::vector<double>>, core::phase_count> phases; // seconds by phase, rank and block
    for (auto& of_ranks : phases) {
        of_ranks.resize(ranks);
    }
    for (std::int64_t b = 0; b < plan.blocks; ++b) {
        const Stepper::Block block = stepper.run(steps);
        for (std::size_t p = 0; p < core::phase_count; ++p) {
            const double seconds =
                replica.timer().seconds(static_cast<core::Phase>(p)) / static_cast<double>(block.steps);
            const std::vector<double> all = communicator.gather_all(std::span(&seconds, 1));
            for (std::size_t r = 0; r < ranks; ++r) {
                phases[p][r].push_back(all[r]);
            }
        }
        rates.push_back(static_cast<double>(block.samples) / block.seconds);
        flops.push_back(rates.back() * replica.network().training_flops());
        if (sgemm) {
            sgemm->measure(flops.back());
            bfloat16->measure(flops.back());
        }
    }
    result.samples_per_second = spread_of(rates);
    result.flops = spread_of(flops);
    if (sgemm) {
        result.peak = sgemm->result();
        result.bfloat16_peak = bfloat16->result();
    }
    for (std::size_t p = 0; p < core::phase_count; ++p) {
        PhaseCost& cost = result.phases[p];
        for (std::size_t r = 0; r < ranks; ++r) {
            const double seconds = spread_of(phases[p][r]).median;
            cost.seconds += seconds / static_cast<double>(ranks);
            if (seconds > cost.slowest_seconds) {
                cost.slowest_seconds = seconds;
                cost.slowest_rank = static_cast<int>(r);
            }
        }
    }
    return result;
}

std::vector<Alternative> compare_products(train::Replica& replica, StepPlan plan, const config::Config& config,
                                          const mpi::Communicator& communicator) {
    std::vector<Alternative> results = alternatives_to(config);
    Stepper own(replica, communicator);
    for (Alternative& alternative : results) {
        const config::Config changed = changed_by(alternative, config);
        train::Plan other_plan(changed, communicator);
        train::Replica other(other_plan);
        other.initialise();
        Stepper others(other, communicator);
        others.run(plan.steps); // warm-up
        std::vector<double> rates, ratios;
        const auto rate = [](const Stepper::Block& block) {
            return static_cast<double>(block.samples) / block.seconds;
        };
        for (std::int64_t b = 0; b < plan.blocks; ++b) {
            const double own_rate = rate(own.run(plan.steps));
            rates.push_back(rate(others.run(plan.steps)));
            ratios.push_back(own_rate / rates.back());
        }
        alternative.samples_per_second = spread_of(rates);
        alternative.ratio = spread_of(ratios);
    }
    return results;
}

} // namespace dtrain::bench
