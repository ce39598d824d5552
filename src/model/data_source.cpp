#include "dtrain/model/data_source.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/data/idx.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <utility>

namespace dtrain::model {
namespace {

namespace synthetic = data::synthetic;

data::Limits limits_of(const config::Config& config) {
    return {config.data.train_samples, config.data.test_samples};
}

void require_at_most(const config::Config& config, const char* key, std::int64_t wanted, std::int64_t most) {
    if (wanted > most) {
        throw config.invalid(key, fmt::format("expected at most {}, as more {} do not fit into memory",
                                              std::max<std::int64_t>(most, 0), synthetic::name));
    }
}

void require_classes(const config::Config& config, std::size_t classes) {
    if (classes < synthetic::classes) {
        throw config.invalid("model.layers", fmt::format("{} are of {} classes, the last layer tells {} apart",
                                                         synthetic::name, synthetic::classes, classes));
    }
}

/// Not collective; of the samples to be drawn, this machine is to hold `share`. A system may promise more memory than
/// it has and kill a rank later on.
data::DatasetHeader plan(const config::Config& config, double share) {
    data::DatasetHeader header = synthetic::header(limits_of(config));
    const std::int64_t most = synthetic::most_samples(share);
    require_at_most(config, "data.train_samples", header.train_samples, most);
    require_at_most(config, "data.test_samples", header.test_samples, most - header.train_samples);
    return header;
}

data::DatasetHeader find_files(const config::Config& config) {
    data::DatasetHeader found = data::read_header(config.data.directory);
    const auto require = [&](const char* key, std::int64_t wanted, std::int64_t available) {
        if (wanted > available) {
            throw config.invalid(key, fmt::format("{} holds {} samples", config.data.directory.string(), available));
        }
    };
    require("data.train_samples", config.data.train_samples, found.train_samples);
    require("data.test_samples", config.data.test_samples, found.test_samples);
    return found;
}

} // namespace

std::vector<std::size_t> find_sample_shape(const config::Config& config, const mpi::Communicator& communicator) {
    const double share = static_cast<double>(communicator.split_by_node().size()) / communicator.size();
    std::array<std::int64_t, 9> shape{}; // number of dimensions, dimensions
    mpi::together(communicator, [&] {
        if (config.data.synthetic || communicator.is_root()) {
            const auto found = (config.data.synthetic ? plan(config, share) : find_files(config)).sample_shape;
            shape[0] = static_cast<std::int64_t>(found.size());
            std::ranges::copy(found, shape.begin() + 1);
        }
    });
    communicator.broadcast(std::span(shape));
    return {shape.begin() + 1, shape.begin() + 1 + shape[0]};
}

data::Dataset load_dataset(const config::Config& config, std::size_t classes,
                           std::span<const core::Range> shards_of_rank, const mpi::Communicator& communicator) {
    const std::int64_t shards = config.parallel.logical_shards;
    if (!config.data.synthetic) {
        return data::load_dataset(config.data.directory, limits_of(config), static_cast<int>(classes), shards,
                                  shards_of_rank, communicator);
    }
    data::Dataset dataset;
    mpi::together(communicator, [&] {
        require_classes(config, classes);
        const core::Range own_shards = shards_of_rank[static_cast<std::size_t>(communicator.rank())];
        const data::DatasetHeader header = synthetic::header(limits_of(config));
        const auto draw = [&](synthetic::Set set, std::int64_t total) {
            return synthetic::make_split(set, total, data::samples_of_shards(total, shards, own_shards));
        };
        dataset = {draw(synthetic::Set::train, header.train_samples), draw(synthetic::Set::test, header.test_samples),
                   synthetic::name};
    });
    return dataset;
}

data::Split load_set(const config::Config& config, synthetic::Set set, std::size_t classes) {
    const bool training = set == synthetic::Set::train;
    if (!config.data.synthetic) {
        const std::filesystem::path& directory = config.data.directory;
        return data::load_split(data::find_samples(directory, training ? data::train_samples : data::test_samples),
                                data::find_idx(directory, training ? data::train_labels : data::test_labels),
                                static_cast<int>(classes));
    }
    require_classes(config, classes);
    const data::DatasetHeader header = synthetic::header(limits_of(config));
    const std::int64_t samples = training ? header.train_samples : header.test_samples;
    require_at_most(config, training ? "data.train_samples" : "data.test_samples", samples, synthetic::most_samples(1));
    return synthetic::make_split(set, samples, {0, samples});
}

} // namespace dtrain::model
