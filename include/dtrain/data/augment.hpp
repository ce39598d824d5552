#pragma once

#include "dtrain/core/matrix.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace dtrain::data {

/// How much training images are distorted; 0 is not at all.
struct Augmentation {
    double shift = 0;         ///< pixels: up to so many along and across
    double rotate = 0;        ///< degrees, either way
    double scale = 0;         ///< a fraction: by a factor from 1 - scale to 1 + scale
    double shear = 0;         ///< a fraction: rows slide by up to so much of their distance from the middle one
    double elastic_alpha = 0; ///< pixels: see Augmenter::displacement
    double elastic_sigma = 4; ///< pixels

    [[nodiscard]] bool any() const noexcept;
};

/// Distorts images, each in every epoch in a way of its own, a pure function of (seed, epoch, number of the sample in
/// the whole training set): neither ranks nor restarts change it.
class Augmenter {
  public:
    static constexpr std::size_t most_pixels = 4096; ///< of a side of an image

    /// Allocates all that it ever will.
    Augmenter(const Augmentation& amount, std::size_t rows, std::size_t cols, std::uint64_t seed);

    /// Distorts `image`, rows × cols, in place: the sample's affine transformation about the centre, then its
    /// displacement, with bilinear interpolation and 0 outside of the image.
    void distort(std::span<float> image, std::int64_t epoch, std::int64_t sample) noexcept;

    // What distort is made of.

    /// Shear, then scale, then clockwise rotation, all about the centre, then shift.
    struct Transformation {
        double shift_y = 0, shift_x = 0; ///< pixels
        double rotation_degrees = 0;
        double scale = 1;
        double shear = 0; ///< x += shear · y
    };
    [[nodiscard]] Transformation transformation(std::int64_t epoch, std::int64_t sample) const noexcept;

    /// Per pixel how far away it takes its value, rows × cols each; of this object, and valid until its next call.
    struct Displacement {
        std::span<const float> y, x;
    };
    /// The elastic distortion of P. Simard, D. Steinkraus, J. Platt, "Best practices for convolutional neural networks
    /// applied to visual document analysis" (ICDAR 2003): for each direction uniform random numbers from -1 to 1, one a
    /// pixel and 0 outside, smoothed by a Gaussian of elastic_sigma, times elastic_alpha. The paper leaves open how
    /// the smoothed field is scaled. Here, as usual, the Gaussian sums to 1: then the paper's 34 and 4 are good values
    /// for 28 × 28 pixels, which move by 1.4 pixels in the root mean square. The Gaussian is cut off at 3 sigma.
    Displacement displacement(std::int64_t epoch, std::int64_t sample) noexcept;

    /// Distorts by what is given.
    void warp(std::span<float> image, const Transformation& transformation, Displacement displacement) noexcept;

  private:
    [[nodiscard]] std::size_t width() const noexcept; ///< cols, with room for whole tiles
    /// `size`, or 0 where there is no elastic distortion.
    [[nodiscard]] std::size_t if_elastic(std::size_t size) const noexcept;

    Augmentation amount_;
    std::size_t rows_, cols_;
    std::uint64_t seed_;
    std::size_t radius_;                      ///< of the Gaussian
    core::Buffer<float> weights_;             ///< 2 · radius + 1
    core::Buffer<float> weight_matrix_;       ///< cols × width: what each column adds to each
    core::Buffer<std::uint32_t> words_;       ///< random ones, for both directions
    core::Buffer<float> noise_, half_smooth_; ///< 2 × rows × width
    core::Buffer<float> field_y_, field_x_;
    core::Buffer<float> place_y_, place_x_; ///< of each pixel, relative to the centre
    core::Buffer<float> framed_;            ///< the image within zeros
};

} // namespace dtrain::data
