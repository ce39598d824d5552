#pragma once

#include "dtrain/kernels/table.hpp"

#include <span>
#include <string>

namespace dtrain::kernels {

/// The tables of this program, from the slowest to the fastest: the reference, then one for each instruction set that
/// the program was compiled for. A table that is not supported has a name and no kernels.
[[nodiscard]] std::span<const Table> tables();
/// Whether this CPU and its operating system can execute the kernels of tables()[index].
[[nodiscard]] bool is_supported(std::size_t index) noexcept;

/// The index of the table that this process should use: the fastest that is supported, or the one that the environment
/// variable DTRAIN_ISA names. Throws core::Error (bad_config) if the variable names no supported table, or if only the
/// reference is left: it would be a hundred times slower, so it is used only if DTRAIN_ISA asks for it.
[[nodiscard]] std::size_t choose_table();
/// Uses tables()[index] from now on. Call it before the first use of kernels, on all ranks with the same index.
void use_table(std::size_t index) noexcept;

/// The table in use. The first call chooses it, if use_table() was not called before.
[[nodiscard]] const Table& table();
/// Its kernels for networks of `Real`.
template <class Real>
[[nodiscard]] const NetworkKernels<Real>& network_kernels() {
    return table().network<Real>();
}

} // namespace dtrain::kernels
