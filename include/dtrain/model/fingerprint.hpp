#pragma once

#include "dtrain/mpi/communicator.hpp"
#include "dtrain/nn/parameters.hpp"

#include <cstdint>
#include <span>

namespace dtrain::model {

/// XXH3-64 of all weights and biases, tensor after tensor. Two runs with the same fingerprint have bitwise identical
/// weights.
[[nodiscard]] std::uint64_t fingerprint(const nn::ParameterLayout& layout, std::span<const float> parameters);

/// Collective: compares the fingerprints of all ranks after `step` steps. They differ only after a fault of a machine
/// or of the program. Then it throws mpi::AgreedError (rank_lost) with the ranks that differ from the majority.
void require_equal_replicas(std::uint64_t fingerprint, std::int64_t step, const mpi::Communicator& communicator);

} // namespace dtrain::model
