#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/evaluate/path.hpp"
#include "dtrain/nn/network.hpp"
#include "dtrain/nn/parameters.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace dtrain::evaluate {

/// A plane in the space of parameters, through the last point of a path: after Li, Xu, Taylor, Studer and Goldstein,
/// "Visualizing the Loss Landscape of Neural Nets" (NeurIPS 2018).
struct Plane {
    bool principal = false;   ///< true: principal components; false: random directions
    std::vector<double> x, y; ///< orthonormal directions, arenas of parameters
};

/// The plane through the last point that is nearest to all points of the path: it is spanned by the two principal
/// components of the differences from the last point, not centred. If the points span no plane, it uses random
/// directions, a function of `seed`; each tensor's part of them is as long as that tensor in the last point.
/// Throws core::Error (bad_config) if there are fewer than two parameters.
[[nodiscard]] Plane choose_plane(const nn::ParameterLayout& layout, const std::vector<PathPoint>& path,
                                 std::uint64_t seed);

/// `count` (at least 5) coordinates in equal steps, exactly one of them 0. `values` must contain 0. The coordinates
/// extend about a quarter of the width of `values` beyond them on both sides, and at least to ±`min_reach`.
[[nodiscard]] std::vector<double> axis(std::span<const double> values, std::size_t count, double min_reach);

/// The cost over a plane, and the path projected on it.
struct CostSurface {
    Plane plane;
    std::array<double, 2> explained{};  ///< fraction of the path's squared distances from its end, along x and along y
    std::vector<double> x, y;           ///< coordinates of the grid
    std::vector<double> cost;           ///< y × x: cost[j · N + i] is the cost at x[i], y[j]
    std::vector<double> path_x, path_y; ///< projected points; the last one is (0, 0)
    std::vector<double> path_cost;      ///< at the points themselves; only the last one lies on the plane
    std::vector<std::int64_t> path_step;
    std::int64_t samples = 0; ///< number of samples of each mean cost
};

/// Called after every computed cost, with the number of costs so far and in total.
using SurfaceProgress = std::function<void(std::size_t done, std::size_t all)>;
/// The cost at an arena of parameters.
using CostOf = std::function<double(std::span<const float> parameters)>;

/// `points` × `points` costs around the last point of the path. The path must not be empty.
[[nodiscard]] CostSurface measure_surface(const nn::ParameterLayout& layout, const std::vector<PathPoint>& path,
                                          std::size_t points, std::uint64_t seed, const CostOf& cost,
                                          const SurfaceProgress& progress);
/// The same for a network. The cost is the mean over evenly spaced samples of `split`. The network must have memory for
/// evaluation_rows rows.
[[nodiscard]] CostSurface measure_surface(nn::Network<float>& network, std::string_view cost, const data::Split& split,
                                          const std::vector<PathPoint>& path, std::size_t points, std::uint64_t seed,
                                          const SurfaceProgress& progress);

/// The number of samples for each cost: 200 to 2000, as many as take about ten seconds on a slow core. It depends on
/// the network only, so results are the same on every machine.
[[nodiscard]] std::int64_t surface_samples(std::size_t points, double forward_flops) noexcept;

} // namespace dtrain::evaluate
