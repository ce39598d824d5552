// The end of a product of bfloat16 matrices along a tree, for the kernels of all instruction sets.
#pragma once

#include "dtrain/kernels/table.hpp"

#include "simd.hpp"

#include <cstddef>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {

/// Stores a part of start + a · b in job.c: the rows and columns from (row, col) on. Adds the partial sums first, if
/// the product ends a leaf. `product` is changed. It is not inlined, so that the compiler cannot move the additions to
/// where denormal numbers become zero.
[[gnu::noinline]] inline void store_product(const Bfloat16Product& job, std::size_t row, std::size_t rows,
                                            std::size_t col, std::size_t cols, float* product,
                                            std::size_t stride) noexcept {
    for (std::size_t r = 0; r < rows; ++r, product += stride) {
        for (std::size_t merge = 0; merge + 1 < job.merges; ++merge) {
            const float* const left = job.lefts + merge * job.left_size + (row + r) * job.left_stride + col;
            for (std::size_t j = 0; j < cols; ++j) {
                product[j] = left[j] + product[j];
            }
        }
        float* const c = job.c + (row + r) * job.c_stride + col;
        for (std::size_t j = 0; j < cols; ++j) {
            c[j] = job.merges > 0 ? c[j] + product[j] : product[j];
        }
    }
}

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
