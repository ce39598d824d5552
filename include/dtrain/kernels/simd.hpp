#pragma once

#include <bit>
#include <cstddef>
#include <utility>

namespace dtrain::kernels {

/// The size of the widest vectors of the CPU that the program is compiled for.
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

} // namespace dtrain::kernels
