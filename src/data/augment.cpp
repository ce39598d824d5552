#include "dtrain/data/augment.hpp"

#include "dtrain/core/memory_book.hpp"
#include "dtrain/core/random.hpp"
#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/kernels/random.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dtrain::data {
namespace {

/// The number of elements that kernels process at once. Buffers have room for whole tiles.
constexpr std::size_t tile = kernels::image_tile;

constexpr std::size_t round_up(std::size_t size, std::size_t to) noexcept {
    return (size + to - 1) / to * to;
}

struct Turn {
    double sine, cosine;
};

/// Sine and cosine by their power series, for up to 180 degrees. The C library's functions differ between machines.
Turn turn_by(double degrees) noexcept {
    const double angle = degrees * (std::numbers::pi / 180);
    const double square = angle * angle;
    double sine = 1;
    double cosine = 1;
    for (int n = 28; n > 0; n -= 2) {
        sine = std::fma(-square / (n * (n + 1)), sine, 1);
        cosine = std::fma(-square / (n * (n - 1)), cosine, 1);
    }
    return {angle * sine, cosine};
}

} // namespace

bool Augmentation::any() const noexcept {
    return shift > 0 || rotate > 0 || scale > 0 || shear > 0 || elastic_alpha > 0;
}

Augmenter::Augmenter(const Augmentation& amount, std::size_t rows, std::size_t cols, std::uint64_t seed)
    : amount_(amount), rows_(rows), cols_(cols), seed_(seed),
      radius_(amount.elastic_alpha > 0 ? static_cast<std::size_t>(std::lround(3 * amount.elastic_sigma)) : 0) {
    core::MemoryBook book;
    book.grant(2 * radius_ + 1, weights_);
    book.grant(if_elastic(cols * width()), weight_matrix_);
    book.grant(if_elastic(round_up(2 * rows * cols, 4)), words_);
    book.grant(if_elastic(2 * rows * width()), noise_, half_smooth_);
    book.grant(rows * cols + tile, field_y_, field_x_);
    book.grant(round_up(rows * cols, tile), place_y_, place_x_);
    book.grant((rows + 3) * (cols + 3), framed_);
    const auto gauss = [&](std::size_t k) {
        const double distance = (static_cast<double>(k) - static_cast<double>(radius_)) / amount.elastic_sigma;
        return std::exp(-0.5 * distance * distance);
    };
    double sum = 0;
    for (std::size_t k = 0; k < weights_.size(); ++k) {
        sum += gauss(k);
    }
    for (std::size_t k = 0; k < weights_.size(); ++k) {
        weights_.data()[k] = static_cast<float>(gauss(k) / sum);
    }
    for (std::size_t from = 0; from < if_elastic(cols); ++from) {
        for (std::size_t to = from - std::min(from, radius_); to < std::min(cols, from + radius_ + 1); ++to) {
            weight_matrix_.data()[from * width() + to] = weights_.data()[radius_ + from - to];
        }
    }
    for (std::size_t i = 0; i < rows * cols; ++i) {
        place_y_.data()[i] = static_cast<float>(i / cols) - static_cast<float>(rows - 1) / 2;
        place_x_.data()[i] = static_cast<float>(i % cols) - static_cast<float>(cols - 1) / 2;
    }
}

void Augmenter::augment(std::span<float> image, std::int64_t epoch, std::int64_t sample) noexcept {
    warp(image, transformation(epoch, sample), displacement(epoch, sample));
}

Augmenter::Transformation Augmenter::transformation(std::int64_t epoch, std::int64_t sample) const noexcept {
    core::RandomStream random(seed_, core::Purpose::transformation, static_cast<std::uint32_t>(epoch),
                              static_cast<std::uint64_t>(sample));
    // All values are drawn, used or not, so that enabling one transformation does not change the others.
    const auto draw = [&](double amount, double middle) { return std::fma(amount, 2 * random.uniform() - 1, middle); };
    Transformation drawn;
    drawn.shift_y = draw(amount_.shift, 0);
    drawn.shift_x = draw(amount_.shift, 0);
    drawn.rotation_degrees = draw(amount_.rotate, 0);
    drawn.scale = draw(amount_.scale, 1);
    drawn.shear = draw(amount_.shear, 0);
    return drawn;
}

Augmenter::Displacement Augmenter::displacement(std::int64_t epoch, std::int64_t sample) noexcept {
    const std::size_t size = rows_ * cols_;
    const Displacement result{field_y_.values().first(size), field_x_.values().first(size)};
    if (amount_.elastic_alpha == 0) {
        return result; // zeros
    }
    kernels::fill_random(seed_, core::Purpose::displacement, static_cast<std::uint32_t>(epoch),
                         static_cast<std::uint64_t>(sample), words_.values());
    const auto amplitude = static_cast<float>(amount_.elastic_alpha * 0x1p-31);
    const std::uint32_t* words = words_.data();
    for (std::size_t y = 0; y < 2 * rows_; ++y, words += cols_) {
        float* const row = noise_.data() + y * width();
        for (std::size_t x = 0; x < cols_; ++x) {
            row[x] = amplitude * static_cast<float>(static_cast<std::int32_t>(words[x]));
        }
    }

    // Smooths the fields of both directions together, first along the columns.
    const auto add_rows = kernels::table().data.add_rows;
    const std::size_t apart = rows_ * width();
    for (std::size_t y = 0; y < rows_; ++y) {
        const std::size_t first = y - std::min(y, radius_);
        const std::size_t count = std::min(rows_, y + radius_ + 1) - first;
        const float* const weights = weights_.data() + (radius_ + first - y);
        for (std::size_t x = 0; x < width(); x += tile) {
            const float* const in = noise_.data() + first * width() + x;
            float* const out = half_smooth_.data() + y * width() + x;
            add_rows(count, width(), {weights, in, out}, {weights, in + apart, out + apart});
        }
    }
    // Then along the rows, as weighted sums of the rows of weight_matrix_. A tile may extend beyond the end of a row;
    // the next row overwrites the excess.
    for (std::size_t y = 0; y < rows_; ++y) {
        for (std::size_t x = 0; x < cols_; x += tile) {
            const std::size_t first = x - std::min(x, radius_);
            const std::size_t count = std::min(cols_, x + tile + radius_) - first;
            const float* const weights = half_smooth_.data() + y * width() + first;
            const float* const in = weight_matrix_.data() + first * width() + x;
            const std::size_t place = y * cols_ + x;
            add_rows(count, width(), {weights, in, field_y_.data() + place},
                     {weights + apart, in, field_x_.data() + place});
        }
    }
    return result;
}

std::size_t Augmenter::if_elastic(std::size_t size) const noexcept {
    return amount_.elastic_alpha > 0 ? size : 0;
}

std::size_t Augmenter::width() const noexcept {
    return round_up(cols_, tile);
}

void Augmenter::warp(std::span<float> image, const Transformation& transformation, Displacement displacement) noexcept {
    // Interpolation needs a border of zeros: one row above, one column to the left, two rows below, two columns to the
    // right.
    const std::size_t stride = cols_ + 3;
    for (std::size_t y = 0; y < rows_; ++y) {
        std::copy_n(image.data() + y * cols_, cols_, framed_.data() + (y + 1) * stride + 1);
    }

    // The value at (y, x) is taken at the inverse transformation of (y, x), in coordinates of the copy with the border.
    const auto [sine, cosine] = turn_by(transformation.rotation_degrees);
    const double inverse = 1 / transformation.scale;
    const double xx = std::fma(transformation.shear, sine, cosine) * inverse;
    const double xy = std::fma(-transformation.shear, cosine, sine) * inverse;
    const double yx = -sine * inverse;
    const double yy = cosine * inverse;
    const auto start = [&](double by_x, double by_y, std::size_t length) {
        const double centre = static_cast<double>(length + 1) / 2; // (length - 1) / 2, and 1 for the frame
        return static_cast<float>(
            std::fma(-by_x, transformation.shift_x, std::fma(-by_y, transformation.shift_y, centre)));
    };
    const float start_x = start(xx, xy, cols_);
    const float start_y = start(yx, yy, rows_);
    kernels::table().data.warp({framed_.data(), static_cast<std::int32_t>(stride), place_x_.data(), place_y_.data(),
                                displacement.x.data(), displacement.y.data(), static_cast<float>(xx),
                                static_cast<float>(xy), static_cast<float>(yx), static_cast<float>(yy), start_x,
                                start_y, static_cast<float>(cols_ + 1), static_cast<float>(rows_ + 1), image.data(),
                                image.size()});
}

} // namespace dtrain::data
