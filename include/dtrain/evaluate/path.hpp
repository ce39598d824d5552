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

/// The parameters of a network after `step` steps, as an arena.
struct PathPoint {
    std::int64_t step = 0;
    core::Buffer<float> parameters;
};

/// The path of a run through parameter space: the initial network if it is random, the earlier checkpoints in the
/// folder of `file`, and `checkpoint`, which was read from `file`. If there are more than 100 checkpoints, or they need
/// more than 512 MB, it reads evenly spaced ones. Checkpoints that cannot be read, or belong to another run, are
/// reported to `warn` and left out. Throws core::Error (bad_checkpoint) if `checkpoint` itself lacks the parameters.
[[nodiscard]] std::vector<PathPoint> read_path(const std::filesystem::path& file, const io::Checkpoint& checkpoint,
                                               const nn::Network<float>& network,
                                               const std::function<void(std::string_view)>& warn);

} // namespace dtrain::evaluate
