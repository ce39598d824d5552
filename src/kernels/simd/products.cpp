// Panels of matrix products, see ../exact_products.cpp.

#include "dtrain/kernels/table.hpp"

#include "operands.hpp"
#include "simd.hpp"
#include "tiles.hpp"

#include <cstddef>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {
namespace {

/// Copies each tile column by column.
template <class Real>
void pack_rows(const ProductJob<Real>& job, Real* to) noexcept {
    in_even_parts(job.rows, job.tile_rows, [&](std::size_t first, std::size_t rows) {
        for (std::size_t k = 0; k < job.depth; ++k) {
            const Real* from = job.a.data + first * job.a.row_stride + k * job.a.col_stride;
            for (std::size_t r = 0; r < rows; ++r, from += job.a.row_stride) {
                *to++ = *from;
            }
        }
    });
}

template <class Real>
void multiply_panel(const ProductJob<Real>& job, std::size_t first_column, std::size_t width, Real* panel_memory,
                    PrefetchQueue& upcoming) noexcept {
    constexpr std::size_t lanes = Native<Real>::lanes;
    constexpr std::size_t panel_width = panel_columns<Real>;
    const std::size_t tiles = (job.rows + job.tile_rows - 1) / job.tile_rows;
    const Panel<Real> panel(job, first_column, width, tiles, panel_memory);
    const std::size_t vectors = (width + lanes - 1) / lanes;
    TileArguments<Real> arguments;
    arguments.panel = &panel;
    arguments.offsets = job.offsets;
    arguments.merges = job.merges;
    arguments.leaves = job.leaves;
    arguments.add = job.add;
    in_even_parts(job.rows, job.tile_rows, [&](std::size_t first, std::size_t rows) {
        upcoming.prefetch_some();
        if (job.packed_a != nullptr) {
            arguments.a = {job.packed_a + first * job.depth, 1, rows};
        } else {
            arguments.a = job.a;
            arguments.a.data += first * job.a.row_stride;
        }
        compute_tile<max_tile_rows, panel_width>(
            job.c + first * job.c_stride + first_column, job.c_stride, rows, width, vectors * lanes,
            job.add, [&](Real * c, std::size_t stride) __attribute__((always_inline)) {
                arguments.c = c;
                arguments.c_stride = stride;
                (job.leaves == 1 ? chain_tiles<Real>.at[rows - 1][vectors - 1]
                                 : tree_tiles<Real>.at[rows - 1][vectors - 1])(arguments);
            });
    });
}

} // namespace

template <class Real>
void fill_products(ProductKernels<Real>& kernels) noexcept {
    kernels = {panel_columns<Real>, max_tile_rows,       max_tile_rows / 2, max_depth * tile_vectors * vector_bytes,
               pack_rows<Real>,     multiply_panel<Real>};
}
template void fill_products(ProductKernels<float>&) noexcept;
template void fill_products(ProductKernels<double>&) noexcept;

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
