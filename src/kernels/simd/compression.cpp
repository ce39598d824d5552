// Gradients as bfloat16 numbers.

#include "dtrain/core/bfloat16.hpp"
#include "dtrain/kernels/table.hpp"

#include "simd.hpp"

#include <cstddef>
#include <cstdint>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {
namespace {

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
        to[i] = static_cast<std::uint16_t>(__builtin_bit_cast(std::uint32_t, from[i]) >> 16);
    }
}

void unpack(const std::uint16_t* from, float* to, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        to[i] = core::from_bfloat16(from[i]);
    }
}

} // namespace

void fill_compression(CompressionKernels& kernels) noexcept {
    kernels = {round_all, add_rounded, pack, unpack};
}

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
