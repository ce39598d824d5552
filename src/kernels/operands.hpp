// How tiles read the factors of a product: b in panels of columns and a in groups of rows. Both are read in place or,
// if that is faster, copied to contiguous memory first ("packed").
#pragma once

#include "dtrain/core/partition.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/kernels/simd.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace dtrain::kernels::exact {

constexpr int tile_vectors = 2;
/// Inner indices per panel of b.
constexpr std::size_t block_depth = 512;
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
/// The scratch memory for a packed panel.
constexpr std::size_t panel_bytes = max_depth * tile_vectors * vector_bytes;

/// Copies rows [k, k + depth) of columns [first, first + width) of b to `panel`: panel_columns<Real> values per row,
/// with zeros beyond `width`.
template <class Real>
void pack(const Factor<Real>& b, std::size_t k, std::size_t depth, std::size_t first, std::size_t width,
          Real* panel) noexcept {
    constexpr std::size_t lanes = Native<Real>::lanes;
    constexpr std::size_t panel_width = panel_columns<Real>;
    const Real* const from = b.data + k * b.row_stride + first * b.col_stride;
    if (b.col_stride == 1) {
        for (std::size_t i = 0; i < depth; ++i) {
            if (width == panel_width) {
                std::memcpy(panel + i * panel_width, from + i * b.row_stride, panel_width * sizeof(Real));
            } else {
                std::copy_n(from + i * b.row_stride, width, panel + i * panel_width);
                std::fill(panel + i * panel_width + width, panel + (i + 1) * panel_width, Real{0});
            }
        }
        return;
    }
    std::size_t done = 0;
    if (b.row_stride == 1) {
        for (; done + lanes <= depth; done += lanes) {
            for (std::size_t half = 0; half < panel_width; half += lanes) {
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
        for (std::size_t j = 0; j < panel_width; ++j) {
            panel[i * panel_width + j] = j < width ? from[i * b.row_stride + j * b.col_stride] : Real{0};
        }
    }
}

/// One panel of b: read in place, packed as a whole, or packed piece by piece if it has more than max_depth rows.
template <class Real>
class Panel {
  public:
    Panel(const Factor<Real>& b, core::Range inner, std::size_t first, std::size_t width, std::size_t tiles,
          Real* scratch) noexcept
        : b_(b), first_(first), width_(width), scratch_(scratch) {
        const auto begin = static_cast<std::size_t>(inner.begin);
        const auto depth = static_cast<std::size_t>(inner.size());
        const bool whole = width % Native<Real>::lanes == 0 && b.col_stride == 1;
        const bool large = depth * b.row_stride * sizeof(Real) > large_bytes;
        if (whole && (tiles < (large ? pack_from_tiles_if_large : pack_from_tiles) || depth > max_depth)) {
            rows_ = b.data + first;
            stride_ = b.row_stride;
            piece_ = depth;
        } else if (depth <= max_depth) {
            pack(b, begin, depth, first, width, scratch);
            rows_ = scratch;
            offset_ = begin;
            stride_ = panel_columns<Real>;
            piece_ = depth;
        } else {
            stride_ = panel_columns<Real>;
            piece_ = block_depth;
        }
    }

    /// The largest `depth` for at().
    [[nodiscard]] std::size_t piece() const noexcept { return piece_; }
    [[nodiscard]] std::size_t stride() const noexcept { return stride_; }
    /// The rows [k, k + depth) of the panel, stride() values apart. Valid until the next call.
    [[nodiscard]] const Real* at(std::size_t k, std::size_t depth) const noexcept {
        if (rows_ != nullptr) {
            return rows_ + (k - offset_) * stride_;
        }
        pack(b_, k, depth, first_, width_, scratch_);
        return scratch_;
    }

  private:
    const Factor<Real>& b_;
    std::size_t first_;
    std::size_t width_;
    Real* scratch_;
    const Real* rows_ = nullptr;
    std::size_t offset_ = 0;
    std::size_t stride_ = 0;
    std::size_t piece_ = 0;
};

/// The rows of a tile: element (r, k) is data[r · row_stride + k · col_stride].
template <class Real>
struct TileRows {
    const Real* data = nullptr;
    std::size_t row_stride = 0;
    std::size_t col_stride = 0;
};

/// All rows of a, divided into tiles of at most `max_rows` rows.
template <class Real>
class Rows {
  public:
    Rows(const Factor<Real>& a, std::size_t max_rows) noexcept : a_(a), tiles_((a.rows + max_rows - 1) / max_rows) {}

    /// Copies each tile to contiguous memory, column by column.
    void pack(Real* to) noexcept {
        packed_ = to;
        for (std::size_t t = 0; t < tiles_; ++t) {
            const core::Range rows = tile(t);
            for (std::size_t k = 0; k < a_.cols; ++k) {
                const Real* from = a_.data + static_cast<std::size_t>(rows.begin) * a_.row_stride + k * a_.col_stride;
                for (std::int64_t r = rows.begin; r < rows.end; ++r, from += a_.row_stride) {
                    *to++ = *from;
                }
            }
        }
    }

    [[nodiscard]] std::size_t tiles() const noexcept { return tiles_; }
    /// The tiles have nearly equal numbers of rows, because a small last tile would use only a few accumulators.
    [[nodiscard]] core::Range tile(std::size_t index) const noexcept {
        return core::partition(static_cast<std::int64_t>(a_.rows), static_cast<std::int64_t>(tiles_),
                               static_cast<std::int64_t>(index));
    }
    [[nodiscard]] TileRows<Real> at(core::Range tile) const noexcept {
        const auto first = static_cast<std::size_t>(tile.begin);
        if (packed_ != nullptr) {
            return {packed_ + first * a_.cols, 1, static_cast<std::size_t>(tile.size())};
        }
        return {a_.data + first * a_.row_stride, a_.row_stride, a_.col_stride};
    }

  private:
    const Factor<Real>& a_;
    std::size_t tiles_;
    const Real* packed_ = nullptr;
};

} // namespace dtrain::kernels::exact
