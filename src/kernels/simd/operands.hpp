// How tiles read the factors of a product: b in panels of columns and a in groups of rows. Both are read in place or,
// if that is faster, copied to contiguous memory first ("packed").
#pragma once

#include "dtrain/kernels/table.hpp"

#include "simd.hpp"

#include <cstddef>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {

constexpr std::size_t tile_vectors = 2;
/// Inner indices per piece of a panel that is packed piece by piece.
constexpr std::size_t piece_depth = 512;
/// The largest number of inner indices for which a whole panel is packed at once.
constexpr std::size_t max_depth = 8192;
/// Packing a panel pays if at least this many tiles use it. Fewer are enough if b does not fit into the second-level
/// cache, that is, if it has more than `large_bytes`.
constexpr std::size_t pack_from_tiles = 16;
constexpr std::size_t pack_from_tiles_if_large = 4;
constexpr std::size_t large_bytes = std::size_t{512} << 10;

template <class Real>
using Native = Simd<Real, vector_bytes>;
template <class Real>
using Vector = typename Native<Real>::Vector;
template <class Real>
constexpr std::size_t panel_columns = tile_vectors* Native<Real>::lanes;

/// Copies rows of `width` consecutive values to `panel`, as pack() does.
template <class Real>
void pack_rows_of_b(const Real* from, std::size_t row_stride, std::size_t depth, std::size_t width,
                    Real* panel) noexcept {
    constexpr std::size_t lanes = Native<Real>::lanes;
    constexpr std::size_t panel_width = panel_columns<Real>;
    std::size_t row = 0;
    if (width == panel_width) {
        for (; row < depth; ++row) {
            __builtin_memcpy(panel + row * panel_width, from + row * row_stride, panel_width * sizeof(Real));
        }
        return;
    }
    // Whole vectors are loaded while they end within the last row, and lanes beyond `width` are cleared.
    const std::size_t vectors = (width + lanes - 1) / lanes;
    const std::size_t end = (depth - 1) * row_stride + width;
    typename Native<Real>::Mask keep;
    for (std::size_t j = 0; j < lanes; ++j) {
        keep[j] = j < width - (vectors - 1) * lanes ? -1 : 0;
    }
    for (; row * row_stride + vectors * lanes <= end; ++row) {
        Real* const to = panel + row * panel_width;
        for (std::size_t v = 0; v < vectors; ++v) {
            const Vector<Real> values = Native<Real>::load(from + row * row_stride + v * lanes);
            Native<Real>::store(to + v * lanes, v + 1 < vectors ? values : keep ? values : Vector<Real>{});
        }
    }
    for (; row < depth; ++row) {
        for (std::size_t j = 0; j < vectors * lanes; ++j) {
            panel[row * panel_width + j] = j < width ? from[row * row_stride + j] : Real{0};
        }
    }
}

/// Copies rows [k, k + depth) of columns [first, first + width) of b to `panel`: panel_columns<Real> values per row. A
/// vector that is partly beyond `width` has zeros there.
template <class Real>
void pack(const Elements<Real>& b, std::size_t k, std::size_t depth, std::size_t first, std::size_t width,
          Real* panel) noexcept {
    constexpr std::size_t lanes = Native<Real>::lanes;
    constexpr std::size_t panel_width = panel_columns<Real>;
    const Real* const from = b.data + k * b.row_stride + first * b.col_stride;
    if (depth > 0 && b.col_stride == 1) {
        pack_rows_of_b(from, b.row_stride, depth, width, panel);
        return;
    }
    const std::size_t packed_width = (width + lanes - 1) / lanes * lanes;
    std::size_t done = 0;
    if (b.row_stride == 1) {
        for (; done + lanes <= depth; done += lanes) {
            for (std::size_t half = 0; half < width; half += lanes) {
                typename Native<Real>::Square block;
                for (std::size_t j = 0; j < lanes; ++j) {
                    block[j] =
                        half + j < width ? Native<Real>::load(from + (half + j) * b.col_stride + done) : Vector<Real>{};
                }
                Native<Real>::transpose(block);
                for (std::size_t i = 0; i < lanes; ++i) {
                    Native<Real>::store(panel + (done + i) * panel_width + half, block[i]);
                }
            }
        }
    }
    for (std::size_t i = done; i < depth; ++i) {
        for (std::size_t j = 0; j < packed_width; ++j) {
            panel[i * panel_width + j] = j < width ? from[i * b.row_stride + j * b.col_stride] : Real{0};
        }
    }
}

/// One panel of b: read in place, packed as a whole, or packed piece by piece if it has more than max_depth rows.
template <class Real>
class Panel {
  public:
    [[gnu::always_inline]] Panel(const ProductJob<Real>& job, std::size_t first, std::size_t width, std::size_t tiles,
                                 Real* scratch) noexcept
        : b_(job.b), first_(first), width_(width), scratch_(scratch) {
        const std::size_t begin = job.offsets[0];
        const std::size_t depth = job.offsets[job.leaves] - begin;
        const bool whole = width % Native<Real>::lanes == 0 && b_.col_stride == 1;
        const bool large = depth * b_.row_stride * sizeof(Real) > large_bytes;
        if (whole && (tiles < (large ? pack_from_tiles_if_large : pack_from_tiles) || depth > max_depth)) {
            rows_ = b_.data + first;
            stride_ = b_.row_stride;
            piece_ = depth;
        } else if (depth <= max_depth) {
            pack(b_, begin, depth, first, width, scratch);
            rows_ = scratch;
            offset_ = begin;
            stride_ = panel_columns<Real>;
            piece_ = depth;
        } else {
            stride_ = panel_columns<Real>;
            piece_ = piece_depth;
        }
    }

    /// The largest `depth` for at().
    [[nodiscard, gnu::always_inline]] std::size_t piece() const noexcept { return piece_; }
    [[nodiscard, gnu::always_inline]] std::size_t stride() const noexcept { return stride_; }
    /// The rows [k, k + depth) of the panel, stride() values apart. Valid until the next call.
    [[nodiscard, gnu::always_inline]] const Real* at(std::size_t k, std::size_t depth) const noexcept {
        if (rows_ != nullptr) {
            return rows_ + (k - offset_) * stride_;
        }
        pack(b_, k, depth, first_, width_, scratch_);
        return scratch_;
    }

  private:
    const Elements<Real>& b_;
    std::size_t first_;
    std::size_t width_;
    Real* scratch_;
    const Real* rows_ = nullptr;
    std::size_t offset_ = 0;
    std::size_t stride_ = 0;
    std::size_t piece_ = 0;
};

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
