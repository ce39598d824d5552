// Products of bfloat16 matrices, see ../bfloat16_products.cpp. If the instruction set has VDPBF16PS, it computes them
// in the order of that instruction. Otherwise float instructions compute them in the order of AMX: a bfloat16 is a
// float after a shift, so two chains of fused multiply-adds give the same bits.

#include "dtrain/kernels/table.hpp"

#include "simd.hpp"
#include "store_product.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include "reference.hpp"
#endif

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {
namespace {

using Native = Simd<float, vector_bytes>;
using Floats = Native::Vector;
using Bits = decltype(Native::Vector{} < Native::Vector{}); // 32-bit integers, signed
constexpr std::size_t lanes = Native::lanes;
static_assert(bfloat16_columns % lanes == 0);

// --- rounding, see core/bfloat16.hpp ---

/// Two bfloat16 numbers in each lane, the first in the lower half: neighbours in a row of a or in a column of b.
using Pairs = Bits;

#if defined(__AVX512BF16__)

/// The values of both vectors, one after the other.
[[gnu::always_inline]] inline Pairs rounded(Floats first, Floats second) noexcept {
    return __builtin_bit_cast(Pairs, _mm512_cvtne2ps_pbh(second, first));
}
[[gnu::always_inline]] inline Pairs rounded_pairs(Floats first, Floats second) noexcept {
    using Halves [[gnu::vector_size(vector_bytes)]] = std::uint16_t;
    const auto halves = __builtin_bit_cast(Halves, rounded(first, second));
    return [&]<std::size_t... i>(std::index_sequence<i...>) __attribute__((always_inline)) {
        return __builtin_bit_cast(Pairs, __builtin_shufflevector(halves, halves, (i / 2 + i % 2 * lanes)...));
    }
    (std::make_index_sequence<2 * lanes>{});
}

#else

/// The bfloat16 of each lane, in its lower half. The upper half is zero.
[[gnu::always_inline]] inline Bits rounded(Floats values) noexcept {
    const Bits bits = __builtin_bit_cast(Bits, values);
    const Bits magnitude = bits & 0x7fffffff;
    const Bits number =
        magnitude < 0x00800000 ? bits & static_cast<int>(0x80000000U) : bits + 0x7fff + ((bits >> 16) & 1);
    return ((magnitude > 0x7f800000 ? bits | 0x00400000 : number) >> 16) & 0xffff;
}
/// Lane i has the values i of both vectors.
[[gnu::always_inline]] inline Pairs rounded_pairs(Floats first, Floats second) noexcept {
    return rounded(first) | (rounded(second) << 16);
}
/// The values of both vectors, one after the other.
[[gnu::always_inline]] inline Pairs rounded(Floats first, Floats second) noexcept {
    return [&]<std::size_t... i>(std::index_sequence<i...>) __attribute__((always_inline)) {
        return rounded_pairs(__builtin_shufflevector(first, second, (2 * i)...),
                             __builtin_shufflevector(first, second, (2 * i + 1)...));
    }
    (std::make_index_sequence<lanes>{});
}

#endif

[[gnu::always_inline]] inline void store(std::uint16_t* to, Pairs pairs) noexcept {
    Native::store(reinterpret_cast<float*>(to), __builtin_bit_cast(Floats, pairs));
}

/// `valid` floats from memory, then zeros.
[[gnu::always_inline]] inline Floats load_some(const float* from, std::size_t valid) noexcept {
    if (valid >= lanes) {
        return Native::load(from);
    }
#if defined(__AVX512F__)
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << valid) - 1), from);
#else
    Floats values{};
    for (std::size_t i = 0; i < valid; ++i) {
        values[i] = from[i];
    }
    return values;
#endif
}

constexpr std::size_t left(std::size_t size, std::size_t done) noexcept {
    return done < size ? size - done : 0;
}

/// Two vectors of contiguous values, of which `valid` are in memory.
[[gnu::always_inline]] inline Pairs load_rounded(const float* from, std::size_t valid) noexcept {
    return rounded(load_some(from, valid), valid > lanes ? load_some(from + lanes, valid - lanes) : Floats{});
}

/// Calls action(i, the pairs load(0), load(1), ... of lane i) for each lane.
template <class Load, class Action>
[[gnu::always_inline]] inline void transpose_pairs(Load&& load, Action&& action) noexcept {
    Native::Square square;
#pragma GCC unroll 16
    for (std::size_t i = 0; i < lanes; ++i) {
        square[i] = __builtin_bit_cast(Floats, load(i));
    }
    Native::transpose(square); // moves bits
#pragma GCC unroll 16
    for (std::size_t i = 0; i < lanes; ++i) {
        action(i, __builtin_bit_cast(Pairs, square[i]));
    }
}

void round_rows(const Elements<float>& from, std::size_t rows, std::size_t depth, std::uint16_t* a,
                std::size_t a_stride) noexcept {
    const std::size_t end = in_whole_steps(depth);
    if (from.col_stride == 1) {
        for (std::size_t i = 0; i < rows; ++i) {
            for (std::size_t k = 0; k < end; k += 2 * lanes) {
                store(a + i * a_stride + k, load_rounded(from.data + i * from.row_stride + k, left(depth, k)));
            }
        }
        return;
    }
    // Columns are contiguous.
    for (std::size_t i = 0; i < rows; i += lanes) {
        const std::size_t count = smaller(lanes, rows - i);
        const auto column = [&](std::size_t k) __attribute__((always_inline)) {
            return k < depth ? load_some(from.data + i + k * from.col_stride, count) : Floats{};
        };
        for (std::size_t k = 0; k < end; k += 2 * lanes) {
            transpose_pairs(
                [&](std::size_t pair) __attribute__((always_inline)) {
                    return rounded_pairs(column(k + 2 * pair), column(k + 2 * pair + 1));
                },
                [&](std::size_t r, Pairs pairs) __attribute__((always_inline)) {
                    if (r < count) {
                        store(a + (i + r) * a_stride + k, pairs);
                    }
                });
        }
    }
}

void round_panels(const Elements<float>& from, std::size_t depth, std::size_t cols, std::uint16_t* b,
                  std::size_t panel_stride) noexcept {
    const std::size_t end = in_whole_steps(depth);
    for (std::size_t j = 0; j < cols; j += bfloat16_columns, b += panel_stride) {
        for (std::size_t half = 0; half < bfloat16_columns; half += lanes) {
            const std::size_t count = smaller(lanes, left(cols, j + half));
            std::uint16_t* const to = b + 2 * half;
            if (from.col_stride == 1) {
                const auto row = [&](std::size_t k) __attribute__((always_inline)) {
                    return k < depth ? load_some(from.data + j + half + k * from.row_stride, count) : Floats{};
                };
                for (std::size_t k = 0; k < end; k += 2) {
                    store(to + k * bfloat16_columns, rounded_pairs(row(k), row(k + 1)));
                }
                continue;
            }
            // Columns are contiguous.
            for (std::size_t k = 0; k < end; k += 2 * lanes) {
                transpose_pairs(
                    [&](std::size_t column) __attribute__((always_inline)) {
                        return column < count
                                   ? load_rounded(from.data + k + (j + half + column) * from.col_stride, left(depth, k))
                                   : Pairs{};
                    },
                    [&](std::size_t pair, Pairs pairs)
                        __attribute__((always_inline)) { store(to + (k + 2 * pair) * bfloat16_columns, pairs); });
            }
        }
    }
}

void round_samples(const float* block, const Maps& maps, std::uint16_t* samples) noexcept {
    constexpr std::size_t pixel_values = group_rows * bfloat16_columns;
    const std::size_t pixels = maps.pixels();
    const std::size_t values = pixels * block_lanes<float>; // of a channel
    const std::size_t parts = (maps.channels + bfloat16_columns - 1) / bfloat16_columns;
    for (std::size_t part = 0; part < parts; ++part) {
        for (std::size_t half = 0; half < bfloat16_columns; half += lanes) { // channels
            const std::size_t first = part * bfloat16_columns + half;
            const std::size_t count = smaller(lanes, left(maps.channels, first));
            for (std::size_t value = 0; value < values; value += 2 * lanes) {
                transpose_pairs(
                    [&](std::size_t channel) __attribute__((always_inline)) {
                        return channel < count
                                   ? load_rounded(block + (first + channel) * values + value, values - value)
                                   : Pairs{};
                    },
                    [&](std::size_t pair, Pairs pairs) __attribute__((always_inline)) {
                        const std::size_t pixel = (value + 2 * pair) / block_lanes<float>;
                        const std::size_t lane = (value + 2 * pair) % block_lanes<float>;
                        if (pixel < pixels) {
                            store(samples + ((lane / group_rows * parts + part) * pixels + pixel) * pixel_values +
                                      lane % group_rows * bfloat16_columns + 2 * half,
                                  pairs);
                        }
                    });
            }
        }
    }
}

void copy_rows(const std::uint16_t* from, const std::uint32_t* offsets, std::size_t count, std::uint16_t* to) noexcept {
    constexpr std::size_t row = 2 * bfloat16_columns;
    for (std::size_t i = 0; i < count; ++i) {
        __builtin_memcpy(to + i * row, from + offsets[i], row * sizeof(std::uint16_t));
    }
}

// --- products ---

#if defined(__x86_64__)

struct Tile {
    const std::uint16_t* a = nullptr;
    std::size_t a_stride = 0;
    const std::uint16_t* b = nullptr;
    std::size_t panel_stride = 0;
    std::size_t depth = 0;
    bool add = false;
    float* c = nullptr;
    std::size_t c_stride = 0;
    std::size_t merges = 0; ///< only if tile_merges; the rest only if merges > 1
    const float* lefts = nullptr;
    std::size_t left_size = 0;
    std::size_t left_stride = 0;
};

/// Two neighbours in a row of a.
[[gnu::always_inline]] inline std::uint32_t pair_at(const std::uint16_t* a) noexcept {
    std::uint32_t pair;
    __builtin_memcpy(&pair, a, sizeof(pair));
    return pair;
}

#if defined(__AVX512BF16__)

constexpr std::size_t max_rows = 14; // 28 accumulators in 32 registers
constexpr std::size_t max_panels = 2;

template <std::size_t rows, std::size_t panels>
void tile(const Tile& t) noexcept {
    __m512 sums[rows][panels];
#pragma GCC unroll 16
    for (std::size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (std::size_t v = 0; v < panels; ++v) {
            sums[r][v] = t.add ? _mm512_loadu_ps(t.c + r * t.c_stride + v * lanes) : _mm512_setzero_ps();
        }
    }
    const std::uint16_t* a = t.a;
    const std::uint16_t* b = t.b;
    for (std::size_t pair = 0; pair < (t.depth + 1) / 2; ++pair, a += 2, b += 2 * bfloat16_columns) {
        __m512i row[panels];
#pragma GCC unroll 2
        for (std::size_t v = 0; v < panels; ++v) {
            row[v] = _mm512_loadu_si512(b + v * t.panel_stride);
        }
#pragma GCC unroll 16
        for (std::size_t r = 0; r < rows; ++r) {
            const __m512i factor = _mm512_set1_epi32(static_cast<int>(pair_at(a + r * t.a_stride)));
#pragma GCC unroll 2
            for (std::size_t v = 0; v < panels; ++v) {
                sums[r][v] = _mm512_dpbf16_ps(sums[r][v], reinterpret_cast<__m512bh>(row[v]),
                                              reinterpret_cast<__m512bh>(factor));
            }
        }
    }
#pragma GCC unroll 16
    for (std::size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (std::size_t v = 0; v < panels; ++v) {
            float* const c = t.c + r * t.c_stride + v * lanes;
            for (std::size_t left = 0; left + 1 < t.merges; ++left) {
                sums[r][v] = Native::load(t.lefts + left * t.left_size + r * t.left_stride + v * lanes) + sums[r][v];
            }
            Native::store(c, t.merges > 0 ? Native::load(c) + sums[r][v] : sums[r][v]);
        }
    }
}
constexpr bool tile_merges = true;
constexpr Bfloat16Order order = Bfloat16Order::one_chain;
constexpr const char* unit = "VDPBF16PS";
struct DenormalsAreZero { // the instruction treats them as zero by itself
    explicit DenormalsAreZero(bool /*is_needed*/) noexcept {}
};

#else

constexpr std::size_t max_rows = vector_bytes == 64 ? 6 : 3; // two chains per sum: 24 of 32 or 12 of 16 registers
constexpr std::size_t max_panels = vector_bytes == 64 ? 2 : 1;

template <std::size_t rows, std::size_t panels>
void tile(const Tile& t) noexcept {
    constexpr std::size_t vectors = panels * bfloat16_columns / lanes;
    for (std::size_t r = 0; !t.add && r < rows; ++r) {
        for (std::size_t v = 0; v < vectors; ++v) {
            Native::store(t.c + r * t.c_stride + v * lanes, Floats{});
        }
    }
    const std::uint16_t* a = t.a;
    const std::uint16_t* b = t.b;
    for (std::size_t step = 0; step < in_whole_steps(t.depth) / bfloat16_depth; ++step) {
        Floats even[rows][vectors] = {};
        Floats odd[rows][vectors] = {};
        for (std::size_t pair = 0; pair < bfloat16_depth / 2; ++pair, a += 2, b += 2 * bfloat16_columns) {
#pragma GCC unroll 4
            for (std::size_t v = 0; v < vectors; ++v) {
                const std::size_t column = v * lanes;
                const auto* const from =
                    b + column / bfloat16_columns * t.panel_stride + 2 * (column % bfloat16_columns);
                const Bits bits = __builtin_bit_cast(Bits, Native::load(reinterpret_cast<const float*>(from)));
                const Floats even_b = __builtin_bit_cast(Floats, bits << 16);
                const Floats odd_b = __builtin_bit_cast(Floats, bits & static_cast<int>(0xffff0000U));
#pragma GCC unroll 8
                for (std::size_t r = 0; r < rows; ++r) {
                    const std::uint32_t factors = pair_at(a + r * t.a_stride);
                    even[r][v] += __builtin_bit_cast(float, factors << 16) * even_b;
                    odd[r][v] += __builtin_bit_cast(float, factors & 0xffff0000U) * odd_b;
                }
            }
        }
        for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t v = 0; v < vectors; ++v) {
                float* const c = t.c + r * t.c_stride + v * lanes;
                Native::store(c, Native::load(c) + (even[r][v] + odd[r][v]));
            }
        }
    }
}
constexpr bool tile_merges = false; // merges keep denormal numbers, so they follow outside of the tile
constexpr Bfloat16Order order = Bfloat16Order::two_chains;
constexpr const char* unit = "float instructions";

/// While it exists, denormal operands and results become zero, in functions that are called through pointers.
class DenormalsAreZero {
  public:
    explicit DenormalsAreZero(bool is_needed) noexcept : is_needed_(is_needed) {
        if (is_needed_) {
            before_ = __builtin_ia32_stmxcsr();
            __builtin_ia32_ldmxcsr(before_ | 0x8040U); // flush to zero, denormals are zero
        }
    }
    ~DenormalsAreZero() {
        if (is_needed_) {
            __builtin_ia32_ldmxcsr(before_);
        }
    }
    DenormalsAreZero(const DenormalsAreZero&) = delete;
    DenormalsAreZero& operator=(const DenormalsAreZero&) = delete;

  private:
    bool is_needed_;
    unsigned before_ = 0;
};

#endif

constexpr auto tiles = make_tiles<void (*)(const Tile&) noexcept, max_rows, max_panels>(
    []<std::size_t rows, std::size_t panels>() { return tile<rows, panels>; });

void multiply(const Bfloat16Product& job) noexcept {
    constexpr std::size_t max_columns = max_panels * bfloat16_columns;
    // A tile adds to c, begins at zero, or, without a start, adds its sums to c. Others need a place of their own.
    const bool is_computed_in_c =
        job.merges == 0 ? job.start == nullptr || job.start == job.c : tile_merges && job.start == nullptr;
    const DenormalsAreZero in_all_tiles(job.merges == 0); // changing MXCSR takes time
    for (std::size_t j = 0; j < job.cols; j += max_columns) {
        const std::size_t width = smaller(max_columns, job.cols - j);
        const std::size_t panels = (width + bfloat16_columns - 1) / bfloat16_columns;
        in_even_parts(job.rows, max_rows, [&](std::size_t i, std::size_t rows) {
            Tile tile_job{.a = job.a + i * job.a_stride,
                          .a_stride = job.a_stride,
                          .b = job.b + j / bfloat16_columns * job.panel_stride,
                          .panel_stride = job.panel_stride,
                          .depth = job.depth,
                          .add = job.start != nullptr};
            const auto compute = [&](float* c, std::size_t c_stride) __attribute__((always_inline)) {
                const DenormalsAreZero in_this_tile(job.merges > 0);
                tile_job.c = c;
                tile_job.c_stride = c_stride;
                tiles.at[rows - 1][panels - 1](tile_job);
            };
            if (is_computed_in_c && width == panels * bfloat16_columns) {
                tile_job.merges = job.merges;
                if (job.merges > 1) {
                    tile_job.lefts = job.lefts + i * job.left_stride + j;
                    tile_job.left_size = job.left_size;
                    tile_job.left_stride = job.left_stride;
                }
                compute(job.c + i * job.c_stride + j, job.c_stride);
                return;
            }
            alignas(64) float product[max_rows * max_columns];
            for (std::size_t r = 0; job.start != nullptr && r < rows; ++r) {
                for (std::size_t column = 0; column < max_columns; ++column) {
                    product[r * max_columns + column] =
                        column < width ? job.start[(i + r) * job.start_stride + j + column] : 0.0F;
                }
            }
            compute(product, max_columns);
            store_product(job, i, rows, j, width, product, max_columns);
        });
    }
}

#else // without a way to treat denormal numbers as zero that all compilers and CPUs know

constexpr Bfloat16Order order = Bfloat16Order::two_chains;
constexpr const char* unit = "plain loops";
void multiply(const Bfloat16Product& job) noexcept {
    reference::multiply_bfloat16(job, order);
}

#endif

} // namespace

void fill_bfloat16(Bfloat16Kernels& kernels) noexcept {
    kernels = {order, unit, round_rows, round_panels, multiply, round_samples, copy_rows};
}

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
