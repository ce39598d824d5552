#include "dtrain/evaluate/cost_surface.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/random.hpp"
#include "dtrain/model/evaluator.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <optional>
#include <utility>

namespace dtrain::evaluate {
namespace {

/// Σ term(i) over the elements of an arena. Several independent sums are faster than one.
template <class Term>
double sum_over(std::size_t arena_size, Term&& term) {
    constexpr std::size_t lanes = nn::ParameterLayout::alignment;
    std::array<double, lanes> sums{};
    for (std::size_t i = 0; i < arena_size; i += lanes) {
        for (std::size_t lane = 0; lane < lanes; ++lane) {
            sums[lane] += term(i + lane);
        }
    }
    return std::accumulate(sums.begin(), sums.end(), 0.0);
}

double difference(std::span<const float> a, std::span<const float> b, std::size_t i) {
    return static_cast<double>(a[i]) - static_cast<double>(b[i]);
}

double dot(std::span<const double> a, std::span<const double> b) {
    return sum_over(a.size(), [&](std::size_t i) { return a[i] * b[i]; });
}

void add(std::vector<double>& to, double factor, std::span<const double> what) {
    for (std::size_t i = 0; i < to.size(); ++i) {
        to[i] += factor * what[i];
    }
}

/// Scales `direction` to length 1. Returns false if its length is negligible compared to `scale`.
bool normalise(std::vector<double>& direction, double scale) {
    const double length = std::sqrt(dot(direction, direction));
    if (!(length > 1e-8 * scale)) {
        return false;
    }
    std::ranges::transform(direction, direction.begin(), [&](double value) { return value / length; });
    return true;
}

/// Subtracts the component along `unit`. The second pass removes the rounding error of the first.
void make_orthogonal(std::vector<double>& direction, std::span<const double> unit) {
    for (int pass = 0; pass < 2; ++pass) {
        add(direction, -dot(direction, unit), unit);
    }
}

/// A symmetric matrix, n × n.
struct Symmetric {
    std::size_t n;
    std::vector<double> values;
    double& operator()(std::size_t i, std::size_t j) { return values[i * n + j]; }
};

/// Diagonalises `a` by Jacobi rotations (Golub and Van Loan, "Matrix Computations", 8.5). Returns the eigenvectors as
/// columns, and leaves the eigenvalues on the diagonal of `a`.
Symmetric eigenvectors(Symmetric& a) {
    Symmetric v{a.n, std::vector<double>(a.n * a.n)};
    for (std::size_t i = 0; i < a.n; ++i) {
        v(i, i) = 1;
    }
    bool rotated = true;
    for (int sweep = 0; sweep < 100 && rotated; ++sweep) {
        rotated = false;
        for (std::size_t p = 0; p < a.n; ++p) {
            for (std::size_t q = p + 1; q < a.n; ++q) {
                if (std::abs(a(p, q)) <= 1e-17 * std::sqrt(std::abs(a(p, p) * a(q, q)))) {
                    continue;
                }
                rotated = true;
                const double tau = (a(q, q) - a(p, p)) / (2 * a(p, q));
                const double t = (tau < 0 ? -1 : 1) / (std::abs(tau) + std::sqrt(1 + tau * tau));
                const double c = 1 / std::sqrt(1 + t * t);
                const double s = t * c;
                const auto rotate = [&](double& first, double& second) {
                    const double before = first;
                    first = c * before - s * second;
                    second = s * before + c * second;
                };
                for (std::size_t k = 0; k < a.n; ++k) {
                    rotate(a(k, p), a(k, q));
                    rotate(v(k, p), v(k, q));
                }
                for (std::size_t k = 0; k < a.n; ++k) {
                    rotate(a(p, k), a(q, k));
                }
            }
        }
    }
    return v;
}

std::optional<Plane> principal_plane(const std::vector<PathPoint>& path) {
    const std::span<const float> centre = path.back().parameters.values();
    const std::size_t others = path.size() - 1;
    if (others < 2) {
        return std::nullopt;
    }
    // There are far fewer points than parameters, so the components are computed from the points' inner products.
    Symmetric products{others, std::vector<double>(others * others)};
    for (std::size_t i = 0; i < others; ++i) {
        const std::span<const float> a = path[i].parameters.values();
        for (std::size_t j = 0; j <= i; ++j) {
            const std::span<const float> b = path[j].parameters.values();
            products(i, j) = products(j, i) = sum_over(
                centre.size(), [&](std::size_t k) { return difference(a, centre, k) * difference(b, centre, k); });
        }
    }
    Symmetric vectors = eigenvectors(products);
    std::vector<std::size_t> order(others);
    std::iota(order.begin(), order.end(), 0U);
    std::ranges::stable_sort(order, [&](std::size_t i, std::size_t j) { return products(i, i) > products(j, j); });
    if (!(products(order[1], order[1]) > 1e-12 * products(order[0], order[0]))) {
        return std::nullopt; // all on one line
    }
    const auto component = [&](std::size_t number) {
        // Chooses the sign that puts the farthest point on the positive side.
        std::size_t farthest = 0;
        for (std::size_t i = 1; i < others; ++i) {
            farthest = std::abs(vectors(i, number)) > std::abs(vectors(farthest, number)) ? i : farthest;
        }
        const double sign = vectors(farthest, number) < 0 ? -1 : 1;
        std::vector<double> direction(centre.size());
        for (std::size_t i = 0; i < others; ++i) {
            const std::span<const float> point = path[i].parameters.values();
            const double factor = sign * vectors(i, number);
            for (std::size_t k = 0; k < direction.size(); ++k) {
                direction[k] += factor * difference(point, centre, k);
            }
        }
        return direction;
    };
    Plane plane{true, component(order[0]), component(order[1])};
    normalise(plane.x, 0);
    make_orthogonal(plane.y, plane.x);
    normalise(plane.y, 0);
    return plane;
}

/// A direction of normal deviates (Box and Muller 1958). If `by_tensor`, each tensor's part is scaled to the length of
/// that tensor in `centre`.
std::vector<double> random_direction(const nn::ParameterLayout& layout, std::span<const float> centre,
                                     std::uint64_t seed, std::uint64_t number, bool by_tensor) {
    std::vector<double> direction(layout.arena_size());
    core::RandomStream random(seed, core::Purpose::direction, 0, number);
    for (const nn::Tensor& tensor : layout.tensors()) {
        if (tensor.role == nn::Role::statistic) {
            continue;
        }
        double drawn = 0;
        double wanted = 0;
        for (std::size_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
            const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
            direction[i] = radius * std::cos(2 * std::numbers::pi * random.uniform());
            drawn += direction[i] * direction[i];
            wanted += static_cast<double>(centre[i]) * static_cast<double>(centre[i]);
        }
        for (std::size_t i = tensor.offset; by_tensor && i < tensor.offset + tensor.size; ++i) {
            direction[i] *= drawn > 0 ? std::sqrt(wanted / drawn) : 0;
        }
    }
    return direction;
}

Plane random_plane(const nn::ParameterLayout& layout, std::span<const float> centre, std::uint64_t seed) {
    for (const bool by_tensor : {true, false}) {
        Plane plane{false, random_direction(layout, centre, seed, 0, by_tensor),
                    random_direction(layout, centre, seed, 1, by_tensor)};
        const double length = std::sqrt(dot(plane.y, plane.y));
        if (normalise(plane.x, 0)) {
            make_orthogonal(plane.y, plane.x);
            if (normalise(plane.y, length)) {
                return plane;
            }
        }
    } // scaling by tensor fails if all parameters but one are zero
    throw core::Error(core::ExitCode::bad_config, "the cost surface needs a network with at least two parameters");
}

double project(std::span<const double> direction, std::span<const float> centre, std::span<const float> parameters) {
    return sum_over(centre.size(), [&](std::size_t i) { return difference(parameters, centre, i) * direction[i]; });
}

double square(double x) {
    return x * x;
}

/// Evenly spaced samples, so that all classes occur even if the data set is sorted by class.
data::Split evenly_spaced(const data::Split& split, std::int64_t wanted) {
    const std::int64_t count = std::min(wanted, split.total);
    data::Split part = data::allocate_split({count, split.sample_shape, split.element}, {0, count});
    for (std::int64_t i = 0; i < count; ++i) {
        const auto from = static_cast<std::size_t>(i * split.total / count);
        const auto to = static_cast<std::size_t>(i);
        std::ranges::copy(split.elements.values().subspan(from * split.sample_bytes(), split.sample_bytes()),
                          part.elements.values().subspan(to * split.sample_bytes()).begin());
        part.labels.data()[to] = split.labels.data()[from];
    }
    return part;
}

} // namespace

Plane choose_plane(const nn::ParameterLayout& layout, const std::vector<PathPoint>& path, std::uint64_t seed) {
    std::optional<Plane> plane = principal_plane(path);
    return plane ? std::move(*plane) : random_plane(layout, path.back().parameters.values(), seed);
}

std::vector<double> axis(std::span<const double> values, std::size_t count, double min_reach) {
    const auto [low, high] = std::ranges::minmax(values);
    const double margin = 0.25 * (high - low);
    const double first = std::min(low - margin, -min_reach);
    const double step = (std::max(high + margin, min_reach) - first) / static_cast<double>(count - 1);
    const double zero = std::round(-first / step);
    std::vector<double> coordinates(count);
    for (std::size_t i = 0; i < count; ++i) {
        coordinates[i] = (static_cast<double>(i) - zero) * step;
    }
    return coordinates;
}

CostSurface measure_surface(const nn::ParameterLayout& layout, const std::vector<PathPoint>& path, std::size_t points,
                            std::uint64_t seed, const CostOf& cost, const SurfaceProgress& progress) {
    CostSurface surface;
    surface.plane = choose_plane(layout, path, seed);
    const Plane& plane = surface.plane;
    const std::span<const float> centre = path.back().parameters.values();
    const std::size_t all = path.size() + points * points;
    std::size_t done = 0;
    double distances = 0;
    for (const PathPoint& point : path) {
        const std::span<const float> parameters = point.parameters.values();
        surface.path_x.push_back(project(plane.x, centre, parameters));
        surface.path_y.push_back(project(plane.y, centre, parameters));
        surface.path_step.push_back(point.step);
        surface.path_cost.push_back(cost(parameters));
        distances += sum_over(centre.size(), [&](std::size_t i) { return square(difference(parameters, centre, i)); });
        surface.explained[0] += square(surface.path_x.back());
        surface.explained[1] += square(surface.path_y.back());
        progress(++done, all);
    }
    for (double& share : surface.explained) {
        share = distances > 0 ? share / distances : 0;
    }
    // Random directions reach as far as in the paper: one length of the weights.
    const double length =
        std::sqrt(sum_over(centre.size(), [&](std::size_t i) { return square(static_cast<double>(centre[i])); }));
    const double min_reach = plane.principal ? 0 : length > 0 ? length : 1;
    surface.x = axis(surface.path_x, points, min_reach);
    surface.y = axis(surface.path_y, points, min_reach);
    core::Buffer<float> at(centre.size());
    for (const double y : surface.y) {
        for (const double x : surface.x) {
            for (std::size_t i = 0; i < at.size(); ++i) {
                at.data()[i] = static_cast<float>(static_cast<double>(centre[i]) + x * plane.x[i] + y * plane.y[i]);
            }
            surface.cost.push_back(cost(at.values()));
            progress(++done, all);
        }
    }
    return surface;
}

CostSurface measure_surface(nn::Network<float>& network, std::string_view cost, const data::Split& split,
                            const std::vector<PathPoint>& path, std::size_t points, std::uint64_t seed,
                            const SurfaceProgress& progress) {
    const data::Split part = evenly_spaced(split, surface_samples(points, network.forward_flops()));
    model::Evaluator evaluator(network, cost, part);
    const auto mean_cost = [&](std::span<const float> parameters) {
        double sum = 0;
        evaluator.visit(parameters, part.local, [&](std::int64_t first, core::MatrixView<const float> outputs) {
            sum += evaluator.cost(first, outputs);
        });
        return sum / static_cast<double>(part.total);
    };
    CostSurface surface = measure_surface(network.layout(), path, points, seed, mean_cost, progress);
    surface.samples = part.total;
    return surface;
}

std::int64_t surface_samples(std::size_t points, double forward_flops) noexcept {
    constexpr double budget_flops = 2e11;
    const double samples = budget_flops / (static_cast<double>(points * points) * std::max(forward_flops, 1.0));
    return static_cast<std::int64_t>(std::clamp(samples, 200.0, 2000.0));
}

} // namespace dtrain::evaluate
