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

// Builds the objects that a config names. Every function here throws core::Error (bad_config) with the key, its value
// and the allowed values. Nothing is collective.

/// Throws if the name of a data source, a cost, an optimizer, a schedule or a kind of products is unknown, or if two
/// keys exclude each other.
void check_names(const config::Config& config);

/// Throws if the precision or the engine for products is unknown, or if they exclude each other. check_names() calls
/// it.
void check_products(const config::Config& config);
/// The products that the network computes with. Throws as kernels::make_products and make_bfloat16_products do.
[[nodiscard]] std::unique_ptr<kernels::Products> build_products(const config::Config& config);

/// The network for samples of `sample_shape`. `products` must outlive it. Throws if its layers do not fit the cost, the
/// samples or each other.
[[nodiscard]] nn::Network<float> build_network(const config::Config& config, const nn::Shape& sample_shape,
                                               kernels::Products& products);

/// These three require that check_names() has passed.
[[nodiscard]] nn::Cost<float> find_cost(const config::Config& config);
[[nodiscard]] std::unique_ptr<optim::Optimizer> build_optimizer(const config::Config& config);
[[nodiscard]] optim::Schedule build_schedule(const config::Config& config, std::int64_t steps_per_epoch);

/// Throws if the config has augmentation and samples of `shape` are not images, or are too large.
void check_augmentation(const config::Config& config, const nn::Shape& shape);
/// The augmentation for samples of `shape`; empty if the config has none. Requires that check_augmentation() has
/// passed.
[[nodiscard]] std::optional<data::Augmenter> build_augmenter(const config::Config& config, const nn::Shape& shape);

} // namespace dtrain::model
