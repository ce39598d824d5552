// The kernels of bfloat16 numbers as plain loops: products of matrices, and compressed gradients.

#include "dtrain/core/bfloat16.hpp"
#include "dtrain/kernels/table.hpp"

#include "reference.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace dtrain::kernels::reference {
namespace {

// --- products ---

void round_rows(const Elements<float>& from, std::size_t rows, std::size_t depth, std::uint16_t* a,
                std::size_t a_stride) noexcept {
    for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t k = 0; k < in_whole_steps(depth); ++k) {
            a[i * a_stride + k] =
                core::to_bfloat16(k < depth ? from.data[i * from.row_stride + k * from.col_stride] : 0.0F);
        }
    }
}

/// The place of b(k, j).
std::size_t place_in_panels(std::size_t k, std::size_t j, std::size_t panel_stride) noexcept {
    return j / bfloat16_columns * panel_stride + k / 2 * 2 * bfloat16_columns + 2 * (j % bfloat16_columns) + k % 2;
}

void round_panels(const Elements<float>& from, std::size_t depth, std::size_t cols, std::uint16_t* b,
                  std::size_t panel_stride) noexcept {
    for (std::size_t j = 0; j < (cols + bfloat16_columns - 1) / bfloat16_columns * bfloat16_columns; ++j) {
        for (std::size_t k = 0; k < in_whole_steps(depth); ++k) {
            b[place_in_panels(k, j, panel_stride)] =
                core::to_bfloat16(k < depth && j < cols ? from.data[k * from.row_stride + j * from.col_stride] : 0.0F);
        }
    }
}

void round_samples(const float* block, const Maps& maps, std::uint16_t* samples) noexcept {
    const std::size_t parts = (maps.channels + bfloat16_columns - 1) / bfloat16_columns;
    for (std::size_t g = 0; g < block_lanes<float> / group_rows; ++g) {
        for (std::size_t c = 0; c < parts * bfloat16_columns; ++c) {
            for (std::size_t pixel = 0; pixel < maps.pixels(); ++pixel) {
                for (std::size_t l = 0; l < group_rows; ++l) {
                    samples[((g * parts + c / bfloat16_columns) * maps.pixels() + pixel) * 128 +
                            place_in_panels(l, c % bfloat16_columns, 0)] =
                        core::to_bfloat16(
                            c < maps.channels
                                ? block[(c * maps.pixels() + pixel) * block_lanes<float> + g * group_rows + l]
                                : 0.0F);
                }
            }
        }
    }
}

void copy_rows(const std::uint16_t* from, const std::uint32_t* offsets, std::size_t count, std::uint16_t* to) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t j = 0; j < 32; ++j) {
            to[i * 32 + j] = from[offsets[i] + j];
        }
    }
}

/// The CPU's rule if denormal numbers become zero: it rounds as if exponents had no limit, and the result is zero if it
/// is then below the smallest normal number. `exact` is the result before rounding, or near enough to it.
float without_denormals(float rounded, double exact) noexcept {
    constexpr double rounds_to_normal = 0x1p-126 - 0x1p-151;
    if (std::isgreater(std::fabs(rounded), std::numeric_limits<float>::min()) || std::isnan(rounded)) {
        return rounded;
    }
    return static_cast<float>(std::copysign(std::fabs(exact) < rounds_to_normal ? 0.0 : 0x1p-126,
                                            exact == 0 ? static_cast<double>(rounded) : exact));
}
float fused(float a, float b, float c) noexcept {
    return without_denormals(std::fma(a, b, c),
                             static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(c));
}
float sum(float a, float b) noexcept {
    return without_denormals(a + b, static_cast<double>(a) + static_cast<double>(b));
}

/// The values of a row of a and a column of b in one step, without denormal numbers.
using Operand = std::array<float, bfloat16_depth>;

float step_in_two_chains(float c, const Operand& a, const Operand& b, std::size_t /*depth*/) noexcept {
    float even = 0;
    float odd = 0;
    for (std::size_t k = 0; k < bfloat16_depth; k += 2) {
        even = fused(a[k], b[k], even);
        odd = fused(a[k + 1], b[k + 1], odd);
    }
    return sum(c, sum(even, odd));
}
float step_in_one_chain(float c, const Operand& a, const Operand& b, std::size_t depth) noexcept {
    for (std::size_t k = 0; k < depth; k += 2) {
        c = fused(a[k], b[k], fused(a[k + 1], b[k + 1], c));
    }
    return c;
}

// --- compression ---

void round_all(float* values, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        values[i] = core::from_bfloat16(core::to_bfloat16(values[i]));
    }
}

void add_rounded(const float* left, const float* right, float* sum, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        sum[i] = core::from_bfloat16(core::to_bfloat16(left[i] + right[i]));
    }
}

void pack(const float* from, std::uint16_t* to, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        to[i] = core::to_bfloat16(from[i]);
    }
}

void unpack(const std::uint16_t* from, float* to, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        to[i] = core::from_bfloat16(from[i]);
    }
}

} // namespace

void multiply_bfloat16(const Bfloat16Product& job, Bfloat16Order order) noexcept {
    const auto step = order == Bfloat16Order::two_chains ? step_in_two_chains : step_in_one_chain;
    const auto value = [](std::uint16_t bits) {
        const float number = core::from_bfloat16(bits);
        return without_denormals(number, static_cast<double>(number));
    };
    for (std::size_t i = 0; i < job.rows; ++i) {
        for (std::size_t j = 0; j < job.cols; ++j) {
            const float start = job.start != nullptr ? job.start[i * job.start_stride + j] : 0.0F;
            float product = job.depth > 0 ? without_denormals(start, static_cast<double>(start)) : start;
            for (std::size_t first = 0; first < job.depth; first += bfloat16_depth) {
                Operand a;
                Operand b;
                for (std::size_t k = 0; k < bfloat16_depth; ++k) {
                    a[k] = value(job.a[i * job.a_stride + first + k]);
                    b[k] = value(job.b[place_in_panels(first + k, j, job.panel_stride)]);
                }
                product = step(product, a, b, std::min(bfloat16_depth, job.depth - first));
            }
            for (std::size_t merge = 0; merge + 1 < job.merges; ++merge) {
                product = job.lefts[merge * job.left_size + i * job.left_stride + j] + product;
            }
            float& c = job.c[i * job.c_stride + j];
            c = job.merges > 0 ? c + product : product;
        }
    }
}

Bfloat16Kernels bfloat16_kernels() noexcept {
    return {Bfloat16Order::two_chains,
            "plain loops",
            round_rows,
            round_panels,
            [](const Bfloat16Product& job) noexcept { multiply_bfloat16(job, Bfloat16Order::two_chains); },
            round_samples,
            copy_rows};
}

CompressionKernels compression_kernels() noexcept {
    return {round_all, add_rounded, pack, unpack};
}

} // namespace dtrain::kernels::reference
