#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/nn/network.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>
#include <vector>

namespace dtrain::evaluate {

/// The parameters of a network after `step` steps, an arena.
struct PathPoint {
    std::int64_t step = 0;
    core::Buffer<float> parameters;
};

/// The way of a run to `checkpoint`, read from `file`: the initial network, the checkpoints of fewer steps in the same
/// folder, evenly spaced ones where they are more than a hundred or take more than 512 MB, and this one. Those that
/// cannot be used, or are of another run, are handed to `warn` and left out. Throws core::Error (bad_checkpoint) if
/// `checkpoint` itself does not hold the parameters.
[[nodiscard]] std::vector<PathPoint> read_path(const std::filesystem::path& file, const io::Checkpoint& checkpoint,
                                               const nn::Network<float>& network,
                                               const std::function<void(std::string_view)>& warn);

} // namespace dtrain::evaluate
