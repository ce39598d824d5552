#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/train/replica.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dtrain::bench {

/// The middle of repeated measurements, and how far they scatter.
struct Spread {
    double median = 0;
    double least = 0;
    double most = 0;
};
[[nodiscard]] Spread spread_of(std::vector<double> values);

/// One phase of a step, per step: the mean over the ranks, and the rank that spends most.
struct PhaseCost {
    double seconds = 0;
    double slowest_seconds = 0;
    int slowest_rank = 0;
};

/// What the machine itself reaches, between the blocks.
struct Ceiling {
    Spread flops; ///< of sgemm on all ranks at once
    Spread share; ///< the steps' flops / these, of the same block
};

struct StepMeasurement {
    std::int64_t blocks = 0;
    std::int64_t steps_per_block = 0;
    Spread samples_per_second;
    Spread flops; ///< per second, over all ranks
    std::optional<Ceiling> ceiling;
    std::array<PhaseCost, core::phase_count> phases;
    double resident_bytes = 0; ///< of the rank with most memory
};

inline constexpr std::size_t sgemm_size = 2048;

struct StepPlan {
    std::int64_t blocks = 1;
    std::int64_t steps = 0;    ///< per block; 0 = as many as take about 0.3 s
    bool with_ceiling = false; ///< each block is followed by products of matrices of sgemm_size on all ranks at once,
                               ///< so that both see the same state of the machine
};

/// Collective: times blocks of descent steps. The initial parameters have been set.
[[nodiscard]] StepMeasurement measure_steps(train::Replica& replica, StepPlan plan,
                                            const mpi::Communicator& communicator);

/// One exchange of gradients of a model's size: every rank has written its gradients, and afterwards every rank can
/// read their sum.
struct ExchangeMeasurement {
    std::string name;
    Spread seconds;
    /// As nccl-tests has it: 2 (n - 1) / n times the bytes, by the time, for n ranks.
    double bus_bandwidth = 0;
};

/// Collective: a bare MPI_Allreduce of `parameters` floats, then every reducer, in turns.
[[nodiscard]] std::vector<ExchangeMeasurement> measure_exchanges(std::size_t parameters, const config::Config& config,
                                                                 const mpi::Communicator& communicator);

/// Collective: seconds per sgemm of sgemm_size here, while all ranks do the same.
class Sgemm {
  public:
    Sgemm();
    [[nodiscard]] double seconds(const mpi::Communicator& communicator);
    [[nodiscard]] static double flops() noexcept; ///< of one product
    [[nodiscard]] static std::string name();

  private:
    core::Buffer<float> a_, b_, c_;
};

} // namespace dtrain::bench
