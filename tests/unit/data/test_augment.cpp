#include "dtrain/core/random.hpp"
#include "dtrain/data/augment.hpp"
#include "dtrain/kernels/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <vector>

namespace dtrain::data {
namespace {

using Image = std::vector<float>;
using Transformation = Augmenter::Transformation;

constexpr Augmentation everything{3, 20, 0.2, 0.3, 34, 4};
/// Sizes with and without a remainder after complete vectors and tiles, flat, and larger than the Gaussian's width.
struct Size {
    std::size_t rows, cols;
};
constexpr Size sizes[] = {{28, 28}, {8, 8}, {5, 33}, {33, 5}, {1, 7}, {40, 75}};

Image random_image(Size size, std::uint64_t seed = 1) {
    Image image(size.rows * size.cols);
    core::RandomStream random(seed, core::Purpose::sample_order, 0, 0);
    std::ranges::generate(image, [&] { return static_cast<float>(random.uniform()); });
    return image;
}

/// In double precision, written from the definition: each pixel of the result takes the value at the place given by the
/// inverse of shift · rotation · scale · shear, plus its displacement.
std::vector<double> reference_warp(const Image& image, Size size, const Transformation& by,
                                   Augmenter::Displacement displacement) {
    const auto at = [&](double y, double x) -> double {
        const bool inside =
            y >= 0 && y < static_cast<double>(size.rows) && x >= 0 && x < static_cast<double>(size.cols);
        return inside
                   ? static_cast<double>(image[static_cast<std::size_t>(y) * size.cols + static_cast<std::size_t>(x)])
                   : 0.0;
    };
    const double centre_y = (static_cast<double>(size.rows) - 1) / 2;
    const double centre_x = (static_cast<double>(size.cols) - 1) / 2;
    const double angle = by.rotation_degrees * std::numbers::pi / 180;
    std::vector<double> result(image.size());
    for (std::size_t i = 0; i < image.size(); ++i) {
        const double moved_y = static_cast<double>(i / size.cols) - centre_y - by.shift_y;
        const double moved_x = static_cast<double>(i % size.cols) - centre_x - by.shift_x;
        const double scaled_x = std::cos(-angle) * moved_x - std::sin(-angle) * moved_y;
        const double scaled_y = std::sin(-angle) * moved_x + std::cos(-angle) * moved_y;
        const double y = scaled_y / by.scale + centre_y + static_cast<double>(displacement.y[i]);
        const double x =
            (scaled_x - by.shear * scaled_y) / by.scale + centre_x + static_cast<double>(displacement.x[i]);
        const double top = std::floor(y);
        const double left = std::floor(x);
        result[i] = (1 - (y - top)) * ((1 - (x - left)) * at(top, left) + (x - left) * at(top, left + 1)) +
                    (y - top) * ((1 - (x - left)) * at(top + 1, left) + (x - left) * at(top + 1, left + 1));
    }
    return result;
}

void expect_near(const Image& actual, const std::vector<double>& expected, double tolerance) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
        ASSERT_NEAR(static_cast<double>(actual[i]), expected[i], tolerance) << "pixel " << i;
    }
}

Image warped(Size size, Image image, const Transformation& by) {
    Augmenter augmenter({}, size.rows, size.cols, 1);
    augmenter.warp(image, by, augmenter.displacement(0, 0));
    return image;
}

TEST(Augmenter, ChangesNothingIfAllAmountsAreZero) {
    EXPECT_FALSE(Augmentation{}.any());
    for (const Size size : sizes) {
        const Image image = random_image(size);
        Image result = image;
        Augmenter augmenter({}, size.rows, size.cols, 1);
        augmenter.augment(result, 3, 5);
        EXPECT_EQ(result, image);
    }
}

TEST(Augmenter, ShiftsByIntegerPixelsExactly) {
    for (const Size size : sizes) {
        const Image image = random_image(size);
        for (const int down : {-3, -1, 0, 1, 2, 100}) {
            for (const int right : {-100, -2, 0, 1, 4}) {
                const Image result = warped(size, image, {.shift_y = double(down), .shift_x = double(right)});
                for (int y = 0; y < static_cast<int>(size.rows); ++y) {
                    for (int x = 0; x < static_cast<int>(size.cols); ++x) {
                        const int from_y = y - down;
                        const int from_x = x - right;
                        const bool inside = from_y >= 0 && from_y < static_cast<int>(size.rows) && from_x >= 0 &&
                                            from_x < static_cast<int>(size.cols);
                        const auto place = [&](int i, int j) {
                            return static_cast<std::size_t>(i) * size.cols + static_cast<std::size_t>(j);
                        };
                        ASSERT_EQ(result[place(y, x)], inside ? image[place(from_y, from_x)] : 0.0F);
                    }
                }
            }
        }
    }
}

TEST(Augmenter, TurnsByRightAngles) {
    constexpr std::size_t side = 28;
    const Image image = random_image({side, side});
    const Image quarter = warped({side, side}, image, {.rotation_degrees = 90});
    const Image half = warped({side, side}, image, {.rotation_degrees = 180});
    const Image back = warped({side, side}, image, {.rotation_degrees = -90});
    for (std::size_t y = 0; y < side; ++y) {
        for (std::size_t x = 0; x < side; ++x) {
            const float value = image[y * side + x];
            EXPECT_NEAR(quarter[x * side + (side - 1 - y)], value,
                        1e-5); // clockwise: the top moves to the right
            EXPECT_NEAR(half[(side - 1 - y) * side + (side - 1 - x)], value, 1e-5);
            EXPECT_NEAR(back[(side - 1 - x) * side + y], value, 1e-5);
        }
    }
}

TEST(Augmenter, ScalesAndShearsAboutTheCentre) {
    constexpr std::size_t side = 9;
    Image image(side * side);
    image[4 * side + 5] = 1; // one pixel to the right of the centre
    EXPECT_EQ(warped({side, side}, image, {.scale = 3})[4 * side + 7], 1.0F);
    image[4 * side + 5] = 0;
    image[6 * side + 4] = 1; // two pixels below it
    EXPECT_EQ(warped({side, side}, image, {.shear = 1.5})[6 * side + 7], 1.0F);
}

TEST(Augmenter, AgreesWithDoublePrecision) {
    for (const Size size : sizes) {
        Augmenter augmenter(everything, size.rows, size.cols, 7);
        for (std::int64_t sample = 0; sample < 20; ++sample) {
            const Image image = random_image(size, static_cast<std::uint64_t>(sample));
            Image result = image;
            augmenter.augment(result, 2, sample);
            const Transformation by = augmenter.transformation(2, sample);
            expect_near(result, reference_warp(image, size, by, augmenter.displacement(2, sample)), 2e-4);
            EXPECT_NE(result, image);
        }
    }
}

// Smoothing by its two-dimensional definition, from the same random numbers.
TEST(Augmenter, DisplacesBySmoothedNoise) {
    for (const Size size : sizes) {
        for (const double sigma : {4.0, 1.3, 0.1}) {
            const auto rows = static_cast<int>(size.rows);
            const auto cols = static_cast<int>(size.cols);
            Augmenter augmenter({.elastic_alpha = 10, .elastic_sigma = sigma}, size.rows, size.cols, 9);
            std::vector<std::uint32_t> words((2 * size.rows * size.cols + 3) / 4 * 4);
            kernels::fill_random(9, core::Purpose::displacement, 4, 11, words);
            const auto radius = static_cast<int>(std::lround(3 * sigma));
            std::vector<double> gauss;
            double sum = 0;
            for (int k = -radius; k <= radius; ++k) {
                gauss.push_back(std::exp(-k * k / (2 * sigma * sigma)));
                sum += gauss.back();
            }
            const auto [field_y, field_x] = augmenter.displacement(4, 11);
            const std::uint32_t* noise = words.data();
            for (const std::span<const float> field : {field_y, field_x}) {
                for (int i = 0; i < rows * cols; i += 7) { // some of them: the definition is slow
                    double expected = 0;
                    for (int dy = -radius; dy <= radius; ++dy) {
                        for (int dx = -radius; dx <= radius; ++dx) {
                            const int y = i / cols + dy;
                            const int x = i % cols + dx;
                            if (y >= 0 && y < rows && x >= 0 && x < cols) {
                                expected += 10 * gauss[static_cast<std::size_t>(dy + radius)] *
                                            gauss[static_cast<std::size_t>(dx + radius)] / (sum * sum) *
                                            (static_cast<std::int32_t>(noise[y * cols + x]) * 0x1p-31);
                            }
                        }
                    }
                    ASSERT_NEAR(static_cast<double>(field[static_cast<std::size_t>(i)]), expected, 2e-5)
                        << size.rows << " x " << size.cols << ", sigma " << sigma << ", pixel " << i;
                }
                noise += rows * cols;
            }
        }
    }
}

// The Gaussian has sum 1. So alpha = 34 and sigma = 4 move pixels in the middle by 34 · sqrt(1/3 / (4π · 4²)) (root
// mean square).
TEST(Augmenter, DisplacesByTheUsualAmount) {
    Augmenter augmenter({.elastic_alpha = 34}, 28, 28, 1);
    double sum = 0;
    double square = 0;
    double product = 0;
    constexpr int samples = 4000;
    for (std::int64_t sample = 0; sample < samples; ++sample) {
        const auto [y, x] = augmenter.displacement(0, sample);
        const double down = static_cast<double>(y[14 * 28 + 14]);
        const double right = static_cast<double>(x[14 * 28 + 14]);
        sum += down + right;
        square += down * down + right * right;
        product += down * right;
    }
    const double expected = 34 * 34 / 3.0 / (4 * std::numbers::pi * 16);
    EXPECT_NEAR(sum / (2 * samples), 0, 5 * std::sqrt(expected / (2 * samples)));
    EXPECT_NEAR(square / (2 * samples), expected, 0.08 * expected);
    EXPECT_NEAR(product / samples, 0, 5 * expected / std::sqrt(samples));
}

TEST(Augmenter, DrawsUniformlyWithinTheBounds) {
    const Augmenter augmenter(everything, 28, 28, 1);
    const auto check = [&](auto value, double middle, double amount) {
        double sum = 0;
        double square = 0;
        constexpr int samples = 3000;
        for (std::int64_t sample = 0; sample < samples; ++sample) {
            const double away = (value(augmenter.transformation(1, sample)) - middle) / amount;
            ASSERT_LE(std::abs(away), 1 + 1e-12);
            sum += away;
            square += away * away;
        }
        EXPECT_NEAR(sum / samples, 0, 5 * std::sqrt(1.0 / 3 / samples));
        EXPECT_NEAR(square / samples, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / samples));
    };
    check([](const Transformation& t) { return t.shift_y; }, 0, 3);
    check([](const Transformation& t) { return t.shift_x; }, 0, 3);
    check([](const Transformation& t) { return t.rotation_degrees; }, 0, 20);
    check([](const Transformation& t) { return t.scale; }, 1, 0.2);
    check([](const Transformation& t) { return t.shear; }, 0, 0.3);
}

TEST(Augmenter, IsAPureFunctionOfSeedEpochAndSample) {
    const Size size{28, 28};
    const Image image = random_image(size);
    const auto distorted = [&](Augmenter& augmenter, std::int64_t epoch, std::int64_t sample) {
        Image result = image;
        augmenter.augment(result, epoch, sample);
        return result;
    };
    for (const Augmentation& amount : {everything, Augmentation{.elastic_alpha = 20}, Augmentation{.rotate = 10}}) {
        EXPECT_TRUE(amount.any());
        Augmenter augmenter(amount, size.rows, size.cols, 1);
        Augmenter again(amount, size.rows, size.cols, 1);
        Augmenter other_seed(amount, size.rows, size.cols, 2);
        const Image first = distorted(augmenter, 3, 1234567);
        EXPECT_NE(distorted(augmenter, 4, 1234567), first);
        EXPECT_NE(distorted(augmenter, 3, 1234568), first);
        EXPECT_NE(distorted(other_seed, 3, 1234567), first);
        EXPECT_EQ(distorted(augmenter, 3, 1234567), first);
        EXPECT_EQ(distorted(again, 3, 1234567), first);
    }
}

TEST(Augmenter, AcceptsPlacesFarOutside) {
    Augmenter augmenter({.elastic_alpha = 10000, .elastic_sigma = 0.1}, 28, 28, 1);
    Image image(28 * 28, 3e38F);
    augmenter.warp(image, {.shift_y = 1e4, .scale = 0.1, .shear = 10}, augmenter.displacement(0, 0));
    EXPECT_TRUE(std::ranges::all_of(image, [](float value) { return value >= 0 && value <= 3e38F; }));
}

} // namespace
} // namespace dtrain::data
