#include "dtrain/data/source.hpp"

#include "dtrain/core/registry.hpp"

#include "sources.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

namespace dtrain::data {
namespace {

constexpr core::Registry sources("data source", {core::Named{"idx", make_idx_source},
#ifndef DTRAIN_SIMULATE // a simulation has no HDF5
                                                 core::Named{"hdf5", make_hdf5_source},
#endif
                                                 core::Named{"synthetic", make_synthetic_source}});

} // namespace

std::size_t SetHeader::sample_size() const noexcept {
    return std::accumulate(sample_shape.begin(), sample_shape.end(), std::size_t{1}, std::multiplies<>());
}

core::Error invalid_setting(std::string_view key, std::string_view problem) {
    return {core::ExitCode::bad_config, fmt::format("{}: {}", key, problem)};
}

void require_classes(std::span<const std::uint8_t> labels, std::int64_t first, std::size_t classes,
                     std::string_view place) {
    const auto bad = std::ranges::find_if(labels, [classes](std::uint8_t label) { return label >= classes; });
    if (bad != labels.end()) {
        throw core::Error(core::ExitCode::bad_data,
                          fmt::format("{}: sample {} has label {}, but the network has only {} classes (0 to {})",
                                      place, first + (bad - labels.begin()), *bad, classes, classes - 1));
    }
}

std::vector<std::string> source_names() {
    return sources.names();
}

std::unique_ptr<Source> make_source(std::string_view name, SourceSettings settings) {
    return sources.at(name)(std::move(settings));
}

} // namespace dtrain::data
