#include "dtrain/evaluate/path.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/model/saved_network.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace dtrain::evaluate {
namespace {

constexpr std::size_t max_points = 100;
constexpr std::size_t max_bytes = std::size_t{512} << 20;

/// At most `max_count` of the steps, evenly spaced.
std::vector<std::int64_t> thinned(const std::vector<std::int64_t>& steps, std::size_t max_count) {
    const auto all = static_cast<std::int64_t>(steps.size());
    const auto count = std::min(all, static_cast<std::int64_t>(max_count));
    std::vector<std::int64_t> kept;
    for (std::int64_t i = 0; i < count; ++i) {
        kept.push_back(steps[static_cast<std::size_t>(i * all / count)]);
    }
    return kept;
}

} // namespace

std::vector<PathPoint> read_path(const std::filesystem::path& file, const io::Checkpoint& checkpoint,
                                 const nn::Network<float>& network, const std::function<void(std::string_view)>& warn) {
    const io::CheckpointInfo& info = checkpoint.info();
    const config::Config config = model::config_of(checkpoint);
    const io::CheckpointFolder folder(file.has_parent_path() ? file.parent_path() : ".");
    std::vector<std::int64_t> steps = folder.steps();
    std::ranges::reverse(steps);
    std::erase_if(steps, [&](std::int64_t step) { return step == 0 || step >= info.step; });

    std::vector<PathPoint> path;
    if (info.step > 0 && !config.model.initial) { // another checkpoint may have been replaced since
        core::Buffer<float> initial(network.layout().arena_size());
        network.initialise(initial.values(), config.model.seed);
        path.push_back({0, std::move(initial)});
    }
    const std::size_t bytes = network.layout().arena_size() * sizeof(float);
    for (const std::int64_t step : thinned(steps, std::min(max_points, max_bytes / bytes))) {
        try {
            const io::Checkpoint earlier(folder.file(step));
            const config::Config then = model::config_of(earlier);
            if (earlier.info().step != step || then.model.layers != config.model.layers ||
                then.model.seed != config.model.seed || earlier.info().dataset != info.dataset) {
                earlier.fail("belongs to another run");
            }
            path.push_back({step, model::parameters_of(earlier, network)});
        } catch (const core::Error& error) {
            warn(fmt::format("{}; the path leaves it out", error.what()));
        }
    }
    path.push_back({info.step, model::parameters_of(checkpoint, network)});
    return path;
}

} // namespace dtrain::evaluate
