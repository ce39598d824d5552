#include "dtrain/evaluate/cost_surface.hpp"

#include "support/errors.hpp"
#include "support/products.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace dtrain::evaluate {
namespace {

using support::error_of;

/// Tensors of 20 and 3 parameters, so the arena has gaps.
nn::ParameterLayout layout_of_two() {
    nn::ParameterLayout layout;
    layout.add("01_dense", "weight", {4, 5});
    layout.add("01_dense", "bias", {3});
    return layout;
}

/// Parameters that are all `base`, except those given by (place in the arena, value).
PathPoint point(const nn::ParameterLayout& layout, std::int64_t step, float base,
                const std::vector<std::pair<std::size_t, float>>& others) {
    PathPoint made{step, core::Buffer<float>(layout.arena_size())};
    for (const nn::Tensor& tensor : layout.tensors()) {
        std::ranges::fill(tensor.in(made.parameters.values()), base);
    }
    for (const auto& [place, value] : others) {
        made.parameters.data()[place] += value;
    }
    return made;
}

double dot(std::span<const double> a, std::span<const double> b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

void expect_orthonormal(const Plane& plane) {
    EXPECT_NEAR(dot(plane.x, plane.x), 1, 1e-14);
    EXPECT_NEAR(dot(plane.y, plane.y), 1, 1e-14);
    EXPECT_NEAR(dot(plane.x, plane.y), 0, 1e-14);
}

void expect_zero_gaps(const nn::ParameterLayout& layout, const std::vector<double>& direction) {
    std::vector<double> rest = direction;
    for (const nn::Tensor& tensor : layout.tensors()) {
        std::ranges::fill(tensor.in(std::span(rest)), 0.0);
    }
    EXPECT_EQ(rest, std::vector<double>(rest.size()));
}

TEST(Plane, HoldsThePrincipalComponentsOfThePath) {
    const nn::ParameterLayout layout = layout_of_two();
    const std::size_t bias = layout[1].offset;
    std::vector<PathPoint> path;
    path.push_back(point(layout, 0, 2, {{bias, -8}}));
    path.push_back(point(layout, 1, 2, {{3, 4}}));
    path.push_back(point(layout, 2, 2, {{7, 0.5F}}));
    path.push_back(point(layout, 3, 2, {}));
    const Plane plane = choose_plane(layout, path, 1);
    EXPECT_TRUE(plane.principal);
    expect_orthonormal(plane);
    EXPECT_NEAR(plane.x[bias], -1, 1e-12); // the farthest point has a positive coordinate
    EXPECT_NEAR(plane.y[3], 1, 1e-12);

    const CostSurface surface = measure_surface(
        layout, path, 9, 1, [](auto) { return 0.0; }, [](std::size_t, std::size_t) {});
    const double all = 64 + 16 + 0.25;
    EXPECT_NEAR(surface.explained[0], 64 / all, 1e-12);
    EXPECT_NEAR(surface.explained[1], 16 / all, 1e-12);
    const std::vector<double> path_x{8, 0, 0, 0};
    const std::vector<double> path_y{0, 4, 0, 0};
    for (std::size_t i = 0; i < path.size(); ++i) {
        EXPECT_NEAR(surface.path_x[i], path_x[i], 1e-12);
        EXPECT_NEAR(surface.path_y[i], path_y[i], 1e-12);
    }
    EXPECT_EQ(surface.path_x[3], 0);
    EXPECT_EQ(surface.path_step, (std::vector<std::int64_t>{0, 1, 2, 3}));
}

TEST(Plane, OfManyPointsHasMinimalLoss) {
    const nn::ParameterLayout layout = layout_of_two();
    std::vector<PathPoint> path;
    for (int i = 0; i < 30; ++i) { // an ellipse in the plane of (e0 + e1, e2 - e3), plus a deviation from it
        const auto angle = static_cast<float>(i);
        const float along = 3 * std::cos(angle);
        const float across = std::sin(angle);
        path.push_back(point(
            layout, i, 0.5F,
            {{0, along}, {1, along}, {2, across}, {3, -across}, {static_cast<std::size_t>(4 + i % 5), 0.01F * angle}}));
    }
    path.push_back(point(layout, 30, 0.5F, {}));
    const CostSurface surface = measure_surface(
        layout, path, 5, 1, [](auto) { return 0.0; }, [](std::size_t, std::size_t) {});
    const Plane& plane = surface.plane;
    expect_orthonormal(plane);
    EXPECT_NEAR(std::abs(plane.x[0]), std::sqrt(0.5), 1e-3);
    EXPECT_NEAR(plane.x[0], plane.x[1], 1e-6);
    EXPECT_NEAR(std::abs(plane.y[2]), std::sqrt(0.5), 1e-2);
    EXPECT_GT(surface.explained[0] + surface.explained[1], 0.99);
    EXPECT_LE(surface.explained[0] + surface.explained[1], 1);
    EXPECT_NEAR(dot(surface.path_x, surface.path_y), 0, 1e-9); // components are uncorrelated
}

TEST(Plane, IsRandomIfThePathSpansNone) {
    const nn::ParameterLayout layout = layout_of_two();
    std::vector<PathPoint> line;
    for (const float at : {-2.0F, -1.0F, 0.0F}) {
        line.push_back(point(layout, static_cast<std::int64_t>(at) + 2, 1, {{5, at}}));
    }
    std::vector<PathPoint> alone;
    alone.push_back(point(layout, 0, 1, {}));
    for (const auto* path : {&line, &alone}) {
        const Plane plane = choose_plane(layout, *path, 1);
        EXPECT_FALSE(plane.principal);
        expect_orthonormal(plane);
        expect_zero_gaps(layout, plane.x);
        expect_zero_gaps(layout, plane.y);
        // In each tensor, a direction is as long as the weights, which are 20 and 3.
        const std::span<const double> weight = layout[0].in(std::span<const double>(plane.x));
        EXPECT_NEAR(dot(weight, weight), 20.0 / 23, 1e-12);
        EXPECT_EQ(choose_plane(layout, *path, 1).y, plane.y);
        EXPECT_NE(choose_plane(layout, *path, 2).y, plane.y);
    }
}

TEST(Plane, IsFoundIfMostWeightsAreZero) {
    const nn::ParameterLayout layout = layout_of_two();
    for (const float last : {0.0F, 1.0F}) {
        nn::ParameterLayout small;
        small.add("01_dense", "a", {1});
        small.add("01_dense", "b", {1});
        std::vector<PathPoint> path;
        path.push_back(point(small, 0, 0, {{small[1].offset, last}}));
        expect_orthonormal(choose_plane(small, path, 3));
    }
    nn::ParameterLayout one;
    one.add("01_dense", "a", {1});
    std::vector<PathPoint> path;
    path.push_back(point(one, 0, 1, {}));
    const auto error = error_of<core::Error>([&] { (void)choose_plane(one, path, 3); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_config);
}

TEST(Axis, ContainsZeroAndExtendsBeyondTheValues) {
    for (const std::size_t count : {5U, 8U, 25U}) {
        const std::vector<double> x = axis(std::vector<double>{-3, 0, 1}, count, 0);
        ASSERT_EQ(x.size(), count);
        EXPECT_EQ(std::ranges::count(x, 0.0), 1);
        const double step = x[1] - x[0];
        EXPECT_NEAR(x.back() - x.front(), 6, 1e-12);
        EXPECT_NEAR(x.front(), -4, step / 2 + 1e-12);
        EXPECT_LE(x.front(), -3);
        EXPECT_GE(x.back(), 1);
        EXPECT_TRUE(std::ranges::is_sorted(x));
    }
    const std::vector<double> alone = axis(std::vector<double>{0}, 5, 2);
    EXPECT_EQ(alone, (std::vector<double>{-2, -1, 0, 1, 2}));
}

TEST(CostSurface, IsTheCostAtEachPointOfThePlane) {
    const nn::ParameterLayout layout = layout_of_two();
    std::vector<PathPoint> path;
    path.push_back(point(layout, 0, 1, {{0, 2}}));
    path.push_back(point(layout, 7, 1, {{1, -1}}));
    path.push_back(point(layout, 9, 1, {}));
    const auto cost = [](std::span<const float> p) { // differs along the two directions
        return static_cast<double>(p[0]) + 10 * static_cast<double>(p[1]) * static_cast<double>(p[1]);
    };
    std::size_t calls = 0;
    const CostSurface surface = measure_surface(layout, path, 6, 1, cost, [&](std::size_t done, std::size_t all) {
        EXPECT_EQ(done, ++calls);
        EXPECT_EQ(all, 39U);
    });
    EXPECT_EQ(calls, 39U);
    EXPECT_EQ(surface.path_cost, (std::vector<double>{13, 1, 11}));
    ASSERT_EQ(surface.cost.size(), 36U);
    for (std::size_t j = 0; j < 6; ++j) {
        for (std::size_t i = 0; i < 6; ++i) { // x increases the first parameter, y decreases the second
            const double second = 1 - surface.y[j];
            EXPECT_NEAR(surface.cost[j * 6 + i], 1 + surface.x[i] + 10 * second * second, 1e-4);
            if (surface.x[i] == 0 && surface.y[j] == 0) {
                EXPECT_EQ(surface.cost[j * 6 + i], 11);
            }
        }
    }
}

TEST(CostSurface, IsAMeanOverEvenlySpacedSamples) {
    constexpr std::int64_t all = 3000; // 2000 of them are used
    const data::Split split = data::allocate_split({all, {1}}, {0, all});
    for (std::size_t i = 0; i < all; ++i) {
        split.elements.data()[i] = static_cast<std::byte>(i * i % 251);
        split.labels.data()[i] = i % 3 == 0;
    }
    nn::Network<float> network("dense 2", {1}, support::products());
    network.reserve(nn::Extent::of(256, 1));
    std::vector<PathPoint> path;
    path.push_back(point(network.layout(), 0, 0.5F, {}));
    const CostSurface surface =
        measure_surface(network, "quadratic", split, path, 5, 1, [](std::size_t, std::size_t) {});
    double expected = 0;
    for (std::size_t i = 0; i < all; i += i % 3 == 0 ? 1 : 2) { // the first two of three
        const double output = 0.5 * static_cast<double>(i * i % 251) / 255 + 0.5;
        expected += output * output + (output - 1) * (output - 1);
    }
    EXPECT_EQ(surface.samples, 2000);
    EXPECT_NEAR(surface.path_cost[0], expected / 2000, 1e-6);
}

TEST(CostSurface, UsesFewerSamplesForLargerNetworks) {
    EXPECT_EQ(surface_samples(25, 1000), 2000);
    EXPECT_EQ(surface_samples(25, 1.28e6), 250);
    EXPECT_EQ(surface_samples(50, 1.28e6), 200);
    EXPECT_EQ(surface_samples(25, 1e9), 200);
    EXPECT_EQ(surface_samples(25, 0), 2000);
}

} // namespace
} // namespace dtrain::evaluate
