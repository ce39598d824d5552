// The instructions of AMX. GCC 12 has macros for them that take no constant expression as a tile and hide from the
// compiler which memory they read, so they are written in assembly language.

#include "amx.hpp"

#include "dtrain/kernels/table.hpp"

#include <cstddef>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {
namespace {

struct Instructions {
    /// Also sets all tiles to zero.
    [[gnu::always_inline]] static void configure(const TileConfiguration& configuration) noexcept {
        asm volatile("ldtilecfg %0" : : "m"(configuration));
    }
    /// Tiles in use would slow down switches between threads, and keep the CPU from deep sleep.
    [[gnu::always_inline]] static void release() noexcept { asm volatile("tilerelease"); }

    template <int tile>
    [[gnu::always_inline]] static void zero() noexcept {
        asm volatile("tilezero %%tmm%c0" : : "i"(tile));
    }
    template <int tile>
    [[gnu::always_inline]] static void load(const void* from, std::size_t stride_bytes) noexcept {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride_bytes), "i"(tile) : "memory");
    }
    template <int tile>
    [[gnu::always_inline]] static void store(void* to, std::size_t stride_bytes) noexcept {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride_bytes), "i"(tile) : "memory");
    }
    /// c += a · b. MXCSR has no influence: denormal numbers always become zero.
    template <int c, int a, int b>
    [[gnu::always_inline]] static void multiply_add() noexcept {
        asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b));
    }
};

} // namespace

/// Leaves the functions that round as they are.
void fill_bfloat16(Bfloat16Kernels& kernels) noexcept {
    kernels.order = Bfloat16Order::two_chains;
    kernels.unit = "TDPBF16PS";
    kernels.multiply = multiply_by_tiles<Instructions>;
}

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
