#pragma once

#include "dtrain/core/random.hpp"

#include "support/temporary_folder.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::support {

/// The bytes of an IDX file: a header for `dimensions`, then `elements`, which need not match them.
[[nodiscard]] inline std::string idx(const std::vector<std::uint32_t>& dimensions, std::string_view elements,
                                     std::uint8_t type = 0x08) {
    std::string bytes{'\0', '\0', static_cast<char>(type), static_cast<char>(dimensions.size())};
    for (const std::uint32_t dimension : dimensions) {
        for (const int shift : {24, 16, 8, 0}) {
            bytes += static_cast<char>(dimension >> shift & 0xff);
        }
    }
    return bytes.append(elements);
}

/// The elements of an IDX file of float32 (type 0x0d).
[[nodiscard]] inline std::string big_endian(const std::vector<float>& values) {
    std::string bytes;
    for (const float value : values) {
        for (const int shift : {24, 16, 8, 0}) {
            bytes += static_cast<char>(std::bit_cast<std::uint32_t>(value) >> shift & 0xff);
        }
    }
    return bytes;
}

/// Bytes as text, for comparing and printing.
[[nodiscard]] inline std::string characters(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Pixels and labels of a small classification task that a network can learn: each class has bright pixels in a stripe
/// of its own, on top of noise.
struct Digits {
    std::uint32_t samples = 0;
    std::uint32_t side = 8;
    std::uint32_t classes = 4;
    std::string pixels;
    std::string labels;

    [[nodiscard]] std::string images_file() const { return idx({samples, side, side}, pixels); }
    [[nodiscard]] std::string labels_file() const { return idx({samples}, labels); }
};

[[nodiscard]] inline Digits make_digits(std::uint32_t samples, std::uint64_t seed) {
    Digits digits;
    digits.samples = samples;
    core::RandomStream random(seed, core::Purpose::sample_order, 0, 0);
    for (std::uint32_t n = 0; n < samples; ++n) {
        const std::uint32_t label = random.below(digits.classes);
        digits.labels += static_cast<char>(label);
        for (std::uint32_t y = 0; y < digits.side; ++y) {
            for (std::uint32_t x = 0; x < digits.side; ++x) {
                const bool lit = y * digits.classes / digits.side == label;
                digits.pixels += static_cast<char>(random.below(120) + (lit ? 130 : 0));
            }
        }
    }
    return digits;
}

/// Writes the four files of a data set under their usual names.
inline void write_digits(const std::filesystem::path& folder, std::uint32_t train_samples, std::uint32_t test_samples) {
    const Digits train = make_digits(train_samples, 1);
    const Digits test = make_digits(test_samples, 2);
    write_file(folder / "train-images-idx3-ubyte", train.images_file());
    write_file(folder / "train-labels-idx1-ubyte", train.labels_file());
    write_file(folder / "t10k-images-idx3-ubyte", test.images_file());
    write_file(folder / "t10k-labels-idx1-ubyte", test.labels_file());
}

} // namespace dtrain::support
