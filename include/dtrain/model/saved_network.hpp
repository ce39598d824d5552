#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/matrix.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/nn/network.hpp"

#include <span>
#include <string>
#include <vector>

namespace dtrain::model {

// How a network lies in a checkpoint: /model/<tensor>, and for each state of the optimizer /optimizer/<state>/<tensor>.

/// The config that a checkpoint was written with. Throws core::Error (bad_checkpoint) if it is not a valid one.
[[nodiscard]] config::Config config_of(const io::Checkpoint& checkpoint);

/// The network of a checkpoint, without its weights; `products` has to outlive it. Throws core::Error (bad_checkpoint)
/// if its config makes none, or one whose tensors the checkpoint does not hold.
[[nodiscard]] nn::Network<float> network_of(const io::Checkpoint& checkpoint, kernels::Products& products);

/// Its weights, as an arena of that network. Throws core::Error (bad_checkpoint) if it does not hold them.
[[nodiscard]] core::Buffer<float> parameters_of(const io::Checkpoint& checkpoint, const nn::Network<float>& network);

/// Optimizer state, an arena each.
struct NamedStates {
    std::vector<std::string> names;
    std::span<const std::span<float>> arenas;
};
/// The tensors of a checkpoint as views into arenas of `layout`.
[[nodiscard]] std::vector<io::TensorView> saved_tensors(const nn::ParameterLayout& layout, std::span<float> parameters,
                                                        const NamedStates& states = {});

} // namespace dtrain::model
