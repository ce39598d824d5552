#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/phase_timer.hpp"
#include "dtrain/kernels/openblas.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/train/replica.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dtrain::bench {

/// Median and range of repeated measurements.
struct Spread {
    double median = 0;
    double min = 0;
    double max = 0;
};
/// `values` must not be empty.
[[nodiscard]] Spread spread_of(std::vector<double> values);

/// Time of one phase per step: the mean over the ranks, and the slowest rank.
struct PhaseCost {
    double seconds = 0;
    double slowest_seconds = 0;
    int slowest_rank = 0;
};

/// The speed of a large product on all ranks at once, measured after each block.
struct Peak {
    std::string name; ///< what computes it
    Spread flops;     ///< FLOPs per second
    Spread fraction;  ///< FLOPs per second of the steps / of the product, block by block
};

struct StepMeasurement {
    std::int64_t blocks = 0;
    std::int64_t steps_per_block = 0;
    Spread samples_per_second;
    Spread flops;                      ///< FLOPs per second, over all ranks
    std::optional<Peak> peak;          ///< of sgemm
    std::optional<Peak> bfloat16_peak; ///< of bfloat16 products
    std::array<PhaseCost, core::phase_count> phases;
    double resident_bytes = 0; ///< max over ranks
};

inline constexpr std::size_t sgemm_size = 2048; ///< rows and columns of the matrices

struct StepPlan {
    std::int64_t blocks = 1;
    std::int64_t steps = 0;  ///< per block; 0 = as many as take about 0.3 s
    bool with_peaks = false; ///< large products on all ranks follow each block, so that both run in the same state of
                             ///< the machine
};

/// Collective: times blocks of training steps. The replica must have its initial parameters.
[[nodiscard]] StepMeasurement measure_steps(train::Replica& replica, StepPlan plan,
                                            const mpi::Communicator& communicator);

/// The same steps with other products, in alternation.
struct Alternative {
    std::string key;   ///< "products" or "precision"
    std::string value; ///< of the key, instead of the config's own
    Spread samples_per_second;
    Spread ratio; ///< samples per second of the config / of the alternative, block by block
};

/// Collective: times blocks of steps of `config` with every other engine for products and with the other precision, in
/// alternation with `replica`. Those that the rest of the config excludes are left out.
[[nodiscard]] std::vector<Alternative> compare_products(train::Replica& replica, StepPlan plan,
                                                        const config::Config& config,
                                                        const mpi::Communicator& communicator);

/// One exchange of gradients: before it every rank has written its gradients, and after it every rank can read the sum.
struct ExchangeMeasurement {
    std::string name;
    Spread seconds;
    /// Bytes per second, as nccl-tests defines it: 2 (n - 1) / n · bytes / time, for n ranks.
    double bus_bandwidth = 0;
};

/// Collective: measures a bare MPI_Allreduce of `parameters` floats and every reducer, in alternation.
[[nodiscard]] std::vector<ExchangeMeasurement> measure_exchanges(std::size_t parameters, const config::Config& config,
                                                                 const mpi::Communicator& communicator);

/// Times OpenBLAS' sgemm of square matrices of sgemm_size, on one thread per rank.
class Sgemm {
  public:
    /// Throws std::bad_alloc.
    Sgemm();
    /// Collective: FLOPs per second of one product on this rank, while all ranks compute one.
    [[nodiscard]] double flops(const mpi::Communicator& communicator);
    [[nodiscard]] std::string name() const { return blas_.name(); }

  private:
    kernels::OpenBlas blas_;
    core::Buffer<float> a_, b_, c_;
};

/// Times the bfloat16 kernels on matrices that are in their arrangement already.
class Bfloat16Gemm {
  public:
    static constexpr std::size_t size = 1024; ///< rows and columns of the matrices

    /// Throws std::bad_alloc.
    Bfloat16Gemm();
    /// Collective: as Sgemm::flops().
    [[nodiscard]] double flops(const mpi::Communicator& communicator);
    [[nodiscard]] static std::string name();

  private:
    core::Buffer<std::uint16_t> a_, b_;
    core::Buffer<float> c_;
};

} // namespace dtrain::bench
