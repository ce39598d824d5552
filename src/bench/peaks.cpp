// The peaks: the speed of large products, in float by OpenBLAS and in bfloat16 by the kernels in use.

#include "dtrain/bench/measurements.hpp"
#include "dtrain/kernels/instruction_set.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace dtrain::bench {
namespace {

/// Collective: seconds of action() on this rank, while all ranks execute it.
template <class Action>
double time_on_all_ranks(const mpi::Communicator& communicator, Action&& action) {
    using Clock = core::PhaseTimer::Clock;
    communicator.barrier();
    const auto begin = Clock::now();
    action();
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// FLOPs of a product of square matrices.
double product_flops(std::size_t size) noexcept {
    const auto n = static_cast<double>(size);
    return 2 * n * n * n;
}

} // namespace

Sgemm::Sgemm() : blas_(1), a_(sgemm_size * sgemm_size), b_(sgemm_size * sgemm_size), c_(sgemm_size * sgemm_size) {
    for (std::size_t i = 0; i < a_.size(); ++i) {
        a_.data()[i] = static_cast<float>(i % 7) - 3;
        b_.data()[i] = static_cast<float>(i % 5) - 2;
    }
}

double Sgemm::flops(const mpi::Communicator& communicator) {
    constexpr std::size_t n = sgemm_size;
    return product_flops(n) / time_on_all_ranks(communicator, [&] {
               blas_.multiply({a_.data(), n}, {b_.data(), n}, c_.data(), n, n, n, false);
           });
}

Bfloat16Gemm::Bfloat16Gemm() : a_(size * size), b_(size * size), c_(size * size) {
    constexpr std::uint16_t one = 0x3f80;
    std::ranges::fill(a_.values(), one);
    std::ranges::fill(b_.values(), one);
}

double Bfloat16Gemm::flops(const mpi::Communicator& communicator) {
    // A block of a and one of b stay in the second-level cache.
    constexpr std::size_t rows = 256;
    constexpr std::size_t columns = 64;
    return product_flops(size) / time_on_all_ranks(communicator, [&] {
               for (std::size_t i = 0; i < size; i += rows) {
                   for (std::size_t j = 0; j < size; j += columns) {
                       kernels::table().bfloat16.multiply({.a = a_.data() + i * size,
                                                           .a_stride = size,
                                                           .rows = rows,
                                                           .b = b_.data() + j * size,
                                                           .panel_stride = size * kernels::bfloat16_columns,
                                                           .cols = columns,
                                                           .depth = size,
                                                           .c = c_.data() + i * size + j,
                                                           .c_stride = size});
                   }
               }
           });
}

std::string Bfloat16Gemm::name() {
    return kernels::table().bfloat16.unit;
}

} // namespace dtrain::bench
