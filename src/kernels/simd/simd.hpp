#pragma once

#include "dtrain/kernels/table.hpp"

#include <bit>
#include <cstddef>
#include <utility>

// The files of this folder are compiled once for each instruction set, each time in a namespace of its own. An inline
// function or a template outside this namespace would be a weak symbol: the linker keeps one of its copies for the
// whole program, maybe one that the CPU cannot execute. So kernels use raw pointers and no containers;
// tests/system/test_instruction_sets.py looks for such symbols.

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {

/// The size of the widest vectors of the instruction set.
#if defined(__AVX512F__)
inline constexpr std::size_t vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr std::size_t vector_bytes = 32;
#else
inline constexpr std::size_t vector_bytes = 16;
#endif

/// Vectors of `bytes` bytes as a GCC extension. Vectors wider than vector_bytes are slow, because they do not fit a
/// register.
template <class Real, std::size_t bytes>
struct Simd {
    static constexpr std::size_t lanes = bytes / sizeof(Real);
    using Vector [[gnu::vector_size(bytes)]] = Real;
    using Mask = decltype(Vector{} < Vector{}); ///< all bits of a lane are 1 or 0
    using Unaligned [[gnu::vector_size(bytes), gnu::aligned(alignof(Real)), gnu::may_alias]] = Real;

    [[gnu::always_inline]] static Vector load(const Real* from) noexcept {
        return *reinterpret_cast<const Unaligned*>(from);
    }
    [[gnu::always_inline]] static void store(Real* to, Vector value) noexcept {
        *reinterpret_cast<Unaligned*>(to) = value;
    }

    struct Square {
        Vector rows[lanes]; // not std::array, because GCC 12 drops the vector attribute there

        [[gnu::always_inline]] Vector& operator[](std::size_t i) noexcept { return rows[i]; }
    };
    /// rows[i][j] <-> rows[j][i]
    [[gnu::always_inline]] static void transpose(Square& rows) noexcept {
        [&]<std::size_t... power>(std::index_sequence<power...>) __attribute__((always_inline)) {
            (exchange_blocks<std::size_t{1} << power>(rows, std::make_index_sequence<lanes>{}), ...);
        }
        (std::make_index_sequence<std::bit_width(lanes) - 1>{});
    }

  private:
    /// One step of transpose(): rows at a distance of `block` exchange blocks of `block` lanes.
    template <std::size_t block, std::size_t... lane>
    [[gnu::always_inline]] static void exchange_blocks(Square& rows, std::index_sequence<lane...>) noexcept {
#pragma GCC unroll 16
        for (std::size_t i = 0; i < lanes; ++i) {
            if ((i & block) == 0) {
                const Vector upper = rows[i];
                const Vector lower = rows[i + block];
                rows[i] = __builtin_shufflevector(upper, lower, ((lane & block) == 0 ? lane : lanes + lane - block)...);
                rows[i + block] =
                    __builtin_shufflevector(upper, lower, ((lane & block) == 0 ? lane + block : lanes + lane)...);
            }
        }
    }
};

/// a · b + c, rounded once.
[[gnu::always_inline]] inline float fused(float a, float b, float c) noexcept {
    return __builtin_fmaf(a, b, c);
}
[[gnu::always_inline]] inline double fused(double a, double b, double c) noexcept {
    return __builtin_fma(a, b, c);
}

[[gnu::always_inline]] inline constexpr std::size_t smaller(std::size_t a, std::size_t b) noexcept {
    return a < b ? a : b;
}

/// Calls action(begin, size) for parts of [0, size) of nearly equal size, at most `max_part`: a small last part would
/// use only a few accumulators.
template <class Action>
[[gnu::always_inline]] inline void in_even_parts(std::size_t size, std::size_t max_part, Action&& action) noexcept {
    const std::size_t parts = (size + max_part - 1) / max_part;
    for (std::size_t part = 0, begin = 0; part < parts; ++part) {
        const std::size_t end = size * (part + 1) / parts;
        action(begin, end - begin);
        begin = end;
    }
}

/// Calls compute(c, stride) for a tile of rows × width elements of a row-major matrix. `compute` reads and writes rows
/// of `whole_width` elements. If these would extend beyond the right edge, it works on a copy, with the values of c if
/// `read` is true.
template <std::size_t max_rows, std::size_t max_width, class Real, class Compute>
[[gnu::always_inline]] inline void compute_tile(Real* c, std::size_t stride, std::size_t rows, std::size_t width,
                                                std::size_t whole_width, bool read, Compute&& compute) noexcept {
    if (width == whole_width) {
        compute(c, stride);
        return;
    }
    alignas(64) Real copy[max_rows * max_width];
    for (std::size_t r = 0; read && r < rows; ++r) {
        for (std::size_t j = 0; j < max_width; ++j) {
            copy[r * max_width + j] = j < width ? c[r * stride + j] : Real{0};
        }
    }
    compute(copy, max_width);
    for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t j = 0; j < width; ++j) {
            c[r * stride + j] = copy[r * max_width + j];
        }
    }
}

/// The function for a tile of rows × cols accumulators is at [rows - 1][cols - 1].
template <class Function, std::size_t max_rows, std::size_t max_cols>
struct TileTable {
    Function at[max_rows][max_cols];
};
/// Entry [rows - 1][cols - 1] is at.operator()<rows, cols>().
template <class Function, std::size_t max_rows, std::size_t max_cols, class At>
constexpr TileTable<Function, max_rows, max_cols> make_tiles(At at) noexcept {
    TileTable<Function, max_rows, max_cols> table{};
    [&]<std::size_t... i>(std::index_sequence<i...>) {
        ((table.at[i / max_cols][i % max_cols] = at.template operator()<i / max_cols + 1, i % max_cols + 1>()), ...);
    }
    (std::make_index_sequence<max_rows * max_cols>{});
    return table;
}

// Each source of this folder fills its part of the table.
template <class Real>
void fill_products(ProductKernels<Real>& kernels) noexcept;
template <class Real>
void fill_maps(MapKernels<Real>& kernels) noexcept;
template <class Real>
void fill_elements(ElementKernels<Real>& kernels) noexcept;
template <class Real>
void fill_normalisation(NormalisationKernels<Real>& kernels) noexcept;
void fill_bfloat16(Bfloat16Kernels& kernels) noexcept;
void fill_updates(UpdateKernels& kernels) noexcept;
void fill_data(DataKernels& kernels) noexcept;
void fill_compression(CompressionKernels& kernels) noexcept;

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
