// The peak: the speed of OpenBLAS on a large product. dtrain uses a BLAS for nothing else.

#include "dtrain/bench/measurements.hpp"
#include "dtrain/core/memory.hpp"

#include <cblas.h>

#include <new>

namespace dtrain::bench {

Sgemm::Sgemm() : a_(sgemm_size * sgemm_size), b_(sgemm_size * sgemm_size), c_(sgemm_size * sgemm_size) {
    openblas_set_num_threads(1);
    for (std::size_t i = 0; i < a_.size(); ++i) {
        a_.data()[i] = static_cast<float>(i % 7) - 3;
        b_.data()[i] = static_cast<float>(i % 5) - 2;
    }
    constexpr std::size_t work_bytes = std::size_t{130} << 20;
    if (!core::has_addresses(work_bytes)) { // without this check OpenBLAS would retry its allocation forever
        throw std::bad_alloc();
    }
}

double Sgemm::seconds(const mpi::Communicator& communicator) {
    using Clock = core::PhaseTimer::Clock;
    constexpr auto n = static_cast<blasint>(sgemm_size);
    communicator.barrier();
    const auto begin = Clock::now();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a_.data(), n, b_.data(), n, 0, c_.data(), n);
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

double Sgemm::flops() noexcept {
    constexpr auto n = static_cast<double>(sgemm_size);
    return 2 * n * n * n;
}

std::string Sgemm::name() {
    return openblas_get_config();
}

} // namespace dtrain::bench
