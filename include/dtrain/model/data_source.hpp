#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/data/dataset_loader.hpp"
#include "dtrain/data/source.hpp"
#include "dtrain/mpi/communicator.hpp"

#include <memory>

namespace dtrain::model {

/// The data source of a config. Requires that check_names() has passed. The config must outlive the source. Throws
/// core::Error (bad_config, bad_data).
[[nodiscard]] std::unique_ptr<data::Source> make_source(const config::Config& config);

/// Collective: the loader of a config's data source. The shape of samples is then known before the network is built.
/// Config and communicator must outlive it. Throws mpi::AgreedError (bad_config, bad_data).
[[nodiscard]] data::DatasetLoader open_dataset(const config::Config& config, const mpi::Communicator& communicator);

} // namespace dtrain::model
