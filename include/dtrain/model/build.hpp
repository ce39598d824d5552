#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/data/augment.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/nn/cost.hpp"
#include "dtrain/nn/network.hpp"
#include "dtrain/optim/optimizer.hpp"
#include "dtrain/optim/schedule.hpp"

#include <cstdint>
#include <memory>
#include <optional>

namespace dtrain::model {

// What a config asks for, made from the tables of the modules that have it. Everything here throws core::Error
// (bad_config) that names the key, its value and what is allowed.

/// Throws where the name of a cost, an optimizer or a schedule is in no table, or where two settings exclude each
/// other.
void check_names(const config::Config& config);

/// The network for samples of one shape; `products` has to outlive it. Throws where its layers do not fit the cost, the
/// samples or each other.
[[nodiscard]] nn::Network<float> build_network(const config::Config& config, const nn::Shape& sample_shape,
                                               kernels::Products& products);

/// `check_names` has approved of the names.
[[nodiscard]] nn::Cost<float> find_cost(const config::Config& config);
[[nodiscard]] std::unique_ptr<optim::Optimizer> build_optimizer(const config::Config& config);
[[nodiscard]] optim::Schedule build_schedule(const config::Config& config, std::int64_t steps_per_epoch);

/// Throws where the config wants samples of `shape` distorted that are no images.
void check_augmentation(const config::Config& config, const nn::Shape& shape);
/// What distorts samples of `shape`, of which check_augmentation has approved, if the config asks for it.
[[nodiscard]] std::optional<data::Augmenter> build_augmenter(const config::Config& config, const nn::Shape& shape);

} // namespace dtrain::model
