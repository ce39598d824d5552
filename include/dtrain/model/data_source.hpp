#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/partition.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/data/synthetic.hpp"
#include "dtrain/mpi/communicator.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace dtrain::model {

/// Collective: the shape of the samples that a config asks for, read or drawn, once it is sure that there are as many.
/// Reads headers alone. Throws mpi::AgreedError (bad_config, bad_data).
[[nodiscard]] std::vector<std::size_t> find_sample_shape(const config::Config& config,
                                                         const mpi::Communicator& communicator);

/// Collective: this rank's samples, of which find_sample_shape approved. Throws mpi::AgreedError (bad_config,
/// bad_data).
[[nodiscard]] data::Dataset load_dataset(const config::Config& config, std::size_t classes,
                                         std::span<const core::Range> shards_of_rank,
                                         const mpi::Communicator& communicator);

/// All of a set, whatever the config limits it to, on this rank alone; of synthetic data what the config asks for.
/// Throws core::Error (bad_config, bad_data).
[[nodiscard]] data::Split load_set(const config::Config& config, data::synthetic::Set set, std::size_t classes);

} // namespace dtrain::model
