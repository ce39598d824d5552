#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/matrix.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/nn/network.hpp"

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::model {

// A network in a checkpoint: /model/<tensor>, and /optimizer/<state>/<tensor> for each state of the optimizer.

/// The config of the run that wrote a checkpoint. Throws core::Error (bad_checkpoint) if it is not valid.
[[nodiscard]] config::Config config_of(const io::Checkpoint& checkpoint);

/// The products with which to evaluate a checkpoint. Throws core::Error (bad_checkpoint) if this version does not know
/// its precision.
[[nodiscard]] std::unique_ptr<kernels::Products> products_of(const io::Checkpoint& checkpoint);

/// The network of a checkpoint, without its weights. `products` must outlive it. Throws core::Error (bad_checkpoint) if
/// the config describes no valid network, or if the checkpoint lacks a tensor of the network.
[[nodiscard]] nn::Network<float> network_of(const io::Checkpoint& checkpoint, kernels::Products& products);

/// The weights of a checkpoint, as an arena of `network`. Throws core::Error (bad_checkpoint) if they are missing.
[[nodiscard]] core::Buffer<float> parameters_of(const io::Checkpoint& checkpoint, const nn::Network<float>& network);

/// The weights from which a new run starts, if model.initial names a checkpoint.
struct InitialWeights {
    std::filesystem::path file;
    io::Checkpoint checkpoint;
};
/// Opens the checkpoint of model.initial. Throws core::Error (bad_checkpoint) if there is none, or unless it has the
/// tensors of `layout`, and bad_config if the name is a typo of "random".
[[nodiscard]] std::optional<InitialWeights> open_initial(const config::Config& config,
                                                         const nn::ParameterLayout& layout,
                                                         const std::function<void(std::string_view)>& warn);

/// Names and arenas of optimizer state.
struct NamedStates {
    std::vector<std::string> names;
    std::span<const std::span<float>> arenas;
};
/// The tensors of a checkpoint, as views into arenas of `layout`.
[[nodiscard]] std::vector<io::TensorView> saved_tensors(const nn::ParameterLayout& layout, std::span<float> parameters,
                                                        const NamedStates& states = {});

} // namespace dtrain::model
