#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/data/dataset_loader.hpp"
#include "dtrain/data/source.hpp"
#include "dtrain/mpi/communicator.hpp"

#include <memory>

namespace dtrain::model {

/// Where the samples of a config come from, whose names were checked. It has to outlive the source.
[[nodiscard]] std::unique_ptr<data::Source> make_source(const config::Config& config);

/// Collective: its loader, which knows the shape of samples before there is a network. Config and communicator have to
/// outlive it. Throws mpi::AgreedError (bad_config, bad_data).
[[nodiscard]] data::DatasetLoader open_dataset(const config::Config& config, const mpi::Communicator& communicator);

} // namespace dtrain::model
