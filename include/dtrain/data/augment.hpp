#pragma once

#include "dtrain/core/matrix.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace dtrain::data {

/// The strength of the random transformations of training images. 0 disables a transformation.
struct Augmentation {
    double shift = 0;         ///< maximum shift in both directions, in pixels
    double rotate = 0;        ///< maximum rotation to both sides, in degrees
    double scale = 0;         ///< images are scaled by a factor from 1 - scale to 1 + scale
    double shear = 0;         ///< maximum shift of a row, as a fraction of its distance from the middle row
    double elastic_alpha = 0; ///< in pixels, see Augmenter::displacement
    double elastic_sigma = 4; ///< in pixels, see Augmenter::displacement

    [[nodiscard]] bool any() const noexcept; ///< whether any transformation is enabled
};

/// Applies random transformations to images. They are a pure function of (seed, epoch, number of the sample in the
/// whole training set). So the number of ranks and restarts do not change them.
class Augmenter {
  public:
    static constexpr std::size_t max_pixels = 4096; ///< maximum of rows and of cols

    /// For images of rows × cols pixels. Allocates all memory; the other functions allocate nothing.
    Augmenter(const Augmentation& amount, std::size_t rows, std::size_t cols, std::uint64_t seed);

    /// Transforms `image`, rows × cols, in place: first the sample's affine transformation about the centre, then its
    /// elastic displacement. Interpolates bilinearly; pixels outside the image are 0.
    void augment(std::span<float> image, std::int64_t epoch, std::int64_t sample) noexcept;

    // The steps of augment(), public for tests.

    /// Shear, then scaling, then clockwise rotation, all about the centre, then shift.
    struct Transformation {
        double shift_y = 0, shift_x = 0; ///< pixels
        double rotation_degrees = 0;
        double scale = 1;
        double shear = 0; ///< x += shear · y
    };
    [[nodiscard]] Transformation transformation(std::int64_t epoch, std::int64_t sample) const noexcept;

    /// For each pixel, the offset of the place where its value is taken from, in pixels. rows × cols each. The memory
    /// belongs to the Augmenter and is valid until the next call.
    struct Displacement {
        std::span<const float> y, x;
    };
    /// The elastic distortion of P. Simard, D. Steinkraus, J. Platt, "Best practices for convolutional neural networks
    /// applied to visual document analysis" (ICDAR 2003). For each direction, every pixel gets a uniform random number
    /// from -1 to 1; outside the image it is 0. The field is smoothed by a Gaussian of width elastic_sigma and
    /// multiplied by elastic_alpha. The paper does not specify the scale of the smoothed field. Here, as usual, the
    /// weights of the Gaussian have the sum 1. Then the paper's values 34 and 4 are good for 28 × 28 pixels: they move
    /// pixels by 1.4 pixels (root mean square). The Gaussian is cut off at 3 sigma.
    Displacement displacement(std::int64_t epoch, std::int64_t sample) noexcept;

    /// Applies the given transformation and displacement to `image`.
    void warp(std::span<float> image, const Transformation& transformation, Displacement displacement) noexcept;

  private:
    [[nodiscard]] std::size_t width() const noexcept; ///< cols, rounded up to whole tiles
    /// `size`, or 0 if there is no elastic distortion.
    [[nodiscard]] std::size_t if_elastic(std::size_t size) const noexcept;

    Augmentation amount_;
    std::size_t rows_, cols_;
    std::uint64_t seed_;
    std::size_t radius_;                      ///< of the Gaussian
    core::Buffer<float> weights_;             ///< of the Gaussian, 2 · radius + 1
    core::Buffer<float> weight_matrix_;       ///< cols × width: the weight of each column in each smoothed column
    core::Buffer<std::uint32_t> words_;       ///< random numbers for both directions
    core::Buffer<float> noise_, half_smooth_; ///< 2 × rows × width: before and after smoothing along columns
    core::Buffer<float> field_y_, field_x_;   ///< the displacement
    core::Buffer<float> place_y_, place_x_;   ///< the position of each pixel, relative to the centre
    core::Buffer<float> framed_;              ///< the image in a border of zeros
};

} // namespace dtrain::data
