#pragma once

#include "dtrain/kernels/table.hpp"

namespace dtrain::kernels::reference {

[[nodiscard]] Bfloat16Kernels bfloat16_kernels() noexcept;
[[nodiscard]] CompressionKernels compression_kernels() noexcept;
template <class Real>
[[nodiscard]] NormalisationKernels<Real> normalisation_kernels() noexcept;
/// Bfloat16Kernels::multiply for any order of additions, as plain loops.
void multiply_bfloat16(const Bfloat16Product& job, Bfloat16Order order) noexcept;

} // namespace dtrain::kernels::reference
