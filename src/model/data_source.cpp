#include "dtrain/model/data_source.hpp"

#include <string_view>
#include <utility>

namespace dtrain::model {

std::unique_ptr<data::Source> make_source(const config::Config& config) {
    return data::make_source(config.data.source, {config.data.directory,
                                                  config.data.file,
                                                  {config.data.train_samples, config.data.test_samples},
                                                  config.data.validation_samples,
                                                  config.data.readers,
                                                  [&config](std::string_view key, std::string_view problem) {
                                                      return config.invalid(key, problem);
                                                  }});
}

data::DatasetLoader open_dataset(const config::Config& config, const mpi::Communicator& communicator) {
    std::unique_ptr<const data::Source> source;
    mpi::together(communicator, [&] { source = make_source(config); });
    return {std::move(source), communicator};
}

} // namespace dtrain::model
