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
    bool principal = false;   ///< as against random
    std::vector<double> x, y; ///< orthonormal directions, arenas of parameters
};

/// The plane of the two principal components of what the points of the path differ from the last one by, not centred,
/// so that it is the plane through the last point which is nearest to all. Where fewer than two others span one: random
/// directions, every tensor's part as long as the tensor itself in the last point, a function of `seed`.
/// Throws core::Error (bad_config) if there are fewer than two parameters.
[[nodiscard]] Plane choose_plane(const nn::ParameterLayout& layout, const std::vector<PathPoint>& path,
                                 std::uint64_t seed);

/// `count` (at least 5) coordinates in equal steps, exactly one of them 0, that reach beyond `values`, among which is
/// 0, by about a quarter of their width on either side, and to `least` either way.
[[nodiscard]] std::vector<double> axis(std::span<const double> values, std::size_t count, double least);

/// The cost over a plane, and the path projected on it.
struct CostSurface {
    Plane plane;
    std::array<double, 2> explained{};  ///< share of the path's squared distances from its end, along x and along y
    std::vector<double> x, y;           ///< coordinates of the grid
    std::vector<double> cost;           ///< y × x: cost[j · N + i] is that at x[i], y[j]
    std::vector<double> path_x, path_y; ///< the last one (0, 0)
    std::vector<double> path_cost;      ///< at the points themselves, which lie off the plane but for the last one
    std::vector<std::int64_t> path_step;
    std::int64_t samples = 0; ///< that costs are means over
};

/// Told after every cost that was computed how many there are and will be.
using SurfaceProgress = std::function<void(std::size_t done, std::size_t all)>;
/// The cost at an arena of parameters.
using CostOf = std::function<double(std::span<const float> parameters)>;

/// `points` × `points` costs around the last point of the path, which has at least that one.
[[nodiscard]] CostSurface measure_surface(const nn::ParameterLayout& layout, const std::vector<PathPoint>& path,
                                          std::size_t points, std::uint64_t seed, const CostOf& cost,
                                          const SurfaceProgress& progress);
/// The same for a network, the cost being the mean over evenly spaced samples of `split`. The network has room for
/// evaluation_rows rows.
[[nodiscard]] CostSurface measure_surface(nn::Network<float>& network, std::string_view cost, const data::Split& split,
                                          const std::vector<PathPoint>& path, std::size_t points, std::uint64_t seed,
                                          const SurfaceProgress& progress);

/// How many samples such costs are means over: 200 to 2000, as many as take some ten seconds on a slow core. It depends
/// on the network alone, so that the same figures come out on every machine.
[[nodiscard]] std::int64_t surface_samples(std::size_t points, double forward_flops) noexcept;

} // namespace dtrain::evaluate
