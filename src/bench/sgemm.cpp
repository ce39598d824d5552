// The peak: the speed of OpenBLAS on a large product.

#include "dtrain/bench/measurements.hpp"

#include <chrono>

namespace dtrain::bench {

Sgemm::Sgemm() : blas_(1), a_(sgemm_size * sgemm_size), b_(sgemm_size * sgemm_size), c_(sgemm_size * sgemm_size) {
    for (std::size_t i = 0; i < a_.size(); ++i) {
        a_.data()[i] = static_cast<float>(i % 7) - 3;
        b_.data()[i] = static_cast<float>(i % 5) - 2;
    }
}

double Sgemm::seconds(const mpi::Communicator& communicator) {
    using Clock = core::PhaseTimer::Clock;
    constexpr std::size_t n = sgemm_size;
    communicator.barrier();
    const auto begin = Clock::now();
    blas_.multiply({a_.data(), n}, {b_.data(), n}, c_.data(), n, n, n, false);
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

double Sgemm::flops() noexcept {
    constexpr auto n = static_cast<double>(sgemm_size);
    return 2 * n * n * n;
}

} // namespace dtrain::bench
