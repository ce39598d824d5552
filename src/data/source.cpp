#include "dtrain/data/source.hpp"

#include "sources.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace dtrain::data {
namespace {

struct Named {
    std::string_view name;
    std::unique_ptr<Source> (*make)(SourceSettings);
};
constexpr std::array sources{Named{"idx", make_idx_source}, Named{"synthetic", make_synthetic_source}};

} // namespace

std::size_t SetHeader::sample_size() const noexcept {
    return std::accumulate(sample_shape.begin(), sample_shape.end(), std::size_t{1}, std::multiplies<>());
}

core::Error invalid_setting(std::string_view key, std::string_view problem) {
    return {core::ExitCode::bad_config, fmt::format("{}: {}", key, problem)};
}

std::vector<std::string> source_names() {
    std::vector<std::string> names;
    for (const Named& known : sources) {
        names.emplace_back(known.name);
    }
    return names;
}

std::unique_ptr<Source> make_source(std::string_view name, SourceSettings settings) {
    const auto found = std::ranges::find(sources, name, &Named::name);
    if (found == sources.end()) {
        throw std::out_of_range("no data source " + std::string(name));
    }
    return found->make(std::move(settings));
}

} // namespace dtrain::data
