#pragma once

#include "dtrain/mpi/communicator.hpp"
#include "dtrain/nn/parameters.hpp"

#include <cstdint>
#include <span>

namespace dtrain::model {

/// XXH3-64 of all weights and biases, tensor after tensor: two runs with the same fingerprint have the same weights,
/// bit for bit.
[[nodiscard]] std::uint64_t fingerprint(const nn::ParameterLayout& layout, std::span<const float> parameters);

/// Collective: compares the fingerprints of all ranks. Where they differ, which only a fault of a machine or of the
/// program can lead to, throws mpi::AgreedError (rank_lost) naming the ranks that are not with the majority.
void require_equal_replicas(std::uint64_t fingerprint, std::int64_t step, const mpi::Communicator& communicator);

} // namespace dtrain::model
