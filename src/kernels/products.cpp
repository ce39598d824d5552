// Matrix products in the way of Goto and van de Geijn ("Anatomy of High-Performance Matrix Multiplication", 2008): c is
// cut into tiles that fit the vector registers, b into panels as wide as a tile, k into blocks whose panel fits a
// cache. The elements of a are read where they are, each multiplied with whole vectors of b.

#include "dtrain/kernels/products.hpp"

#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/prefetch.hpp"
#include "dtrain/kernels/simd.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <utility>

namespace dtrain::kernels {
namespace {

constexpr int max_tile_rows =
    vector_bytes == 64 ? 14 : 6; // with two vectors each 28 accumulators of 32 registers, or 12
constexpr int tile_vectors = 2;

/// Inner indices per panel of b and rows of a per block: the block stays in the second-level cache while panel after
/// panel meets it.
constexpr std::size_t block_depth = 512;
constexpr std::size_t block_rows = 256;
/// A tree needs all its inner indices at once, as long as they are no more than these.
constexpr std::size_t most_depth = 8192;
/// Where copying pays: for a panel that meets so many tiles, or fewer if b is too large to stay in the second-level
/// cache; and for rows that meet so many panels, if they are a multiple of so many bytes apart, at which they push each
/// other out of a cache of 4 KiB per way.
constexpr std::size_t pack_from_tiles = 16;
constexpr std::size_t pack_from_tiles_if_large = 4;
constexpr std::size_t large_bytes = std::size_t{512} << 10;
constexpr std::size_t pack_from_panels = 8;
constexpr std::size_t conflicting_distance = 2048;
/// And for columns that every panel would fetch anew from behind the second-level cache: so many values at a time.
constexpr std::size_t far_bytes = std::size_t{1} << 20;
constexpr std::size_t packed_values = std::size_t{1} << 17;

template <class Real>
using Native = Simd<Real, vector_bytes>;
template <class Real>
using Vector = typename Native<Real>::Vector;
template <class Real>
constexpr std::size_t panel_columns = tile_vectors* Native<Real>::lanes;

/// Columns [first, first + width) of b as a panel: `panel_width` values per inner index, zeros beyond `width`.
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

/// One panel of b, as the tiles see it.
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
        if (whole && (tiles < (large ? pack_from_tiles_if_large : pack_from_tiles) || depth > most_depth)) {
            rows_ = b.data + first;
            stride_ = b.row_stride;
            piece_ = depth;
        } else if (depth <= most_depth) {
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

    /// How many inner indices can be had at once.
    [[nodiscard]] std::size_t piece() const noexcept { return piece_; }
    [[nodiscard]] std::size_t stride() const noexcept { return stride_; }
    /// The panel from inner index `k` on, valid until the next call.
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

template <class Real>
struct TileArguments {
    const Real* a = nullptr; ///< of the tile's first row
    std::size_t a_row_stride = 0;
    std::size_t a_col_stride = 0;
    const Panel<Real>* panel = nullptr;
    TreeLeaves leaves;
    bool add = false; ///< begin with what is in c, as against zero; for a single leaf
    Real* c = nullptr;
    std::size_t c_stride = 0;
};

template <class Real, int rows, int vectors>
using Accumulators = Vector<Real>[rows][vectors];

/// sums += a · b over `depth` inner indices, all in registers.
template <class Real, int rows, int vectors>
[[gnu::always_inline]] inline void accumulate(std::size_t depth, const Real* a, std::size_t a_row_stride,
                                              std::size_t a_col_stride, const Real* b, std::size_t b_stride,
                                              Accumulators<Real, rows, vectors>& sums) noexcept {
    const auto step = [&]() __attribute__((always_inline)) {
        Vector<Real> row[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            row[v] = Native<Real>::load(b + static_cast<std::size_t>(v) * Native<Real>::lanes);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const Real factor = a[static_cast<std::size_t>(r) * a_row_stride];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) {
                sums[r][v] += factor * row[v];
            }
        }
        a += a_col_stride;
        b += b_stride;
    };
    for (; depth >= 2; depth -= 2) {
        step();
        step();
    }
    if (depth > 0) {
        step();
    }
}

template <int rows, int vectors, class Action>
[[gnu::always_inline]] inline void for_each_accumulator(Action&& action) noexcept {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            action(r, v);
        }
    }
}

/// sums += the products of one leaf.
template <class Real, int rows, int vectors>
[[gnu::always_inline]] inline void add_leaf(const TileArguments<Real>& arguments, std::size_t leaf,
                                            Accumulators<Real, rows, vectors>& sums) noexcept {
    const std::size_t end = arguments.leaves.offsets[leaf + 1];
    for (std::size_t k = arguments.leaves.offsets[leaf]; k < end;) {
        const std::size_t depth = std::min(end - k, arguments.panel->piece());
        accumulate<Real, rows, vectors>(depth, arguments.a + k * arguments.a_col_stride, arguments.a_row_stride,
                                        arguments.a_col_stride, arguments.panel->at(k, depth),
                                        arguments.panel->stride(), sums);
        k += depth;
    }
}

template <class Real>
[[nodiscard]] Real* c_at(const TileArguments<Real>& arguments, int row, int vector) noexcept {
    return arguments.c + static_cast<std::size_t>(row) * arguments.c_stride +
           static_cast<std::size_t>(vector) * Native<Real>::lanes;
}

/// A tile of a product with a single leaf.
template <class Real, int rows, int vectors>
void chain_tile(const TileArguments<Real>& arguments) noexcept {
    Accumulators<Real, rows, vectors> sums;
    for_each_accumulator<rows, vectors>(
        [&](int r, int v) { sums[r][v] = arguments.add ? Native<Real>::load(c_at(arguments, r, v)) : Vector<Real>{}; });
    add_leaf<Real, rows, vectors>(arguments, 0, sums);
    for_each_accumulator<rows, vectors>([&](int r, int v) { Native<Real>::store(c_at(arguments, r, v), sums[r][v]); });
}

/// A tile of a product along a tree. Whole groups of four leaves, which are a subtree in every tree of
/// core/shard_tree.hpp, are added up in straight lines, by which most partial sums stay in registers or at fixed
/// places; so a tile has half as many rows.
template <class Real, int rows, int vectors>
void tree_tile(const TileArguments<Real>& arguments) noexcept {
    using Sums = Accumulators<Real, rows, vectors>;
    Sums sums;
    Sums waiting[core::max_tree_depth];
    std::size_t waiting_count = 0;
    const auto start_leaf = [&](std::size_t leaf) __attribute__((always_inline)) {
        for_each_accumulator<rows, vectors>([&](int r, int v) { sums[r][v] = Vector<Real>{}; });
        add_leaf<Real, rows, vectors>(arguments, leaf, sums);
    };
    const auto merge = [&](const Sums& left) __attribute__((always_inline)) {
        for_each_accumulator<rows, vectors>([&](int r, int v) { sums[r][v] = left[r][v] + sums[r][v]; });
    };
    const auto copy_to = [&](Sums & target) __attribute__((always_inline)) {
        for_each_accumulator<rows, vectors>([&](int r, int v) { target[r][v] = sums[r][v]; });
    };
    const std::size_t count = arguments.leaves.merges.size();
    std::size_t leaf = 0;
    do {
        start_leaf(leaf);
        int merges = arguments.leaves.merges[leaf];
        if (leaf + 3 < count) {
            Sums single;
            Sums pair;
            copy_to(single);
            start_leaf(++leaf);
            merge(single);
            copy_to(pair);
            start_leaf(++leaf);
            copy_to(single);
            start_leaf(++leaf);
            merge(single);
            merge(pair);
            merges = arguments.leaves.merges[leaf] - 2;
        }
        for (; merges > 0; --merges) {
            merge(waiting[--waiting_count]);
        }
        if (leaf + 1 < count) {
            copy_to(waiting[waiting_count++]);
        }
    } while (++leaf < count);
    for_each_accumulator<rows, vectors>([&](int r, int v) { Native<Real>::store(c_at(arguments, r, v), sums[r][v]); });
}

template <class Real>
using TileFunction = void (*)(const TileArguments<Real>&) noexcept;

/// The functions for tiles of up to so many rows: [vectors - 1][rows - 1].
template <class Real>
constexpr auto chain_tiles = []<int... row>(std::integer_sequence<int, row...>) {
    return std::array<std::array<TileFunction<Real>, sizeof...(row)>, tile_vectors>{
        {{chain_tile<Real, row + 1, 1>...}, {chain_tile<Real, row + 1, 2>...}}};
}
(std::make_integer_sequence<int, max_tile_rows>{});
template <class Real>
constexpr auto tree_tiles = []<int... row>(std::integer_sequence<int, row...>) {
    return std::array<std::array<TileFunction<Real>, sizeof...(row)>, tile_vectors>{
        {{tree_tile<Real, row + 1, 1>...}, {tree_tile<Real, row + 1, 2>...}}};
}
(std::make_integer_sequence<int, max_tile_rows / 2>{});

int product_threads = 1;

/// The rows of a product as its tiles see them.
template <class Real>
class Rows {
  public:
    Rows(const Factor<Real>& a, std::size_t most_rows) noexcept : a_(a), tiles_((a.rows + most_rows - 1) / most_rows) {}

    /// Copies the rows of each tile next to each other.
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
    /// Rows are spread evenly: a last tile of few rows would keep few accumulators busy.
    [[nodiscard]] core::Range tile(std::size_t index) const noexcept {
        return core::partition(static_cast<std::int64_t>(a_.rows), static_cast<std::int64_t>(tiles_),
                               static_cast<std::int64_t>(index));
    }
    /// Sets where a tile finds its rows.
    void locate(core::Range rows, TileArguments<Real>& arguments) const noexcept {
        const auto first = static_cast<std::size_t>(rows.begin);
        if (packed_ != nullptr) {
            arguments.a = packed_ + first * a_.cols;
            arguments.a_row_stride = 1;
            arguments.a_col_stride = static_cast<std::size_t>(rows.size());
        } else {
            arguments.a = a_.data + first * a_.row_stride;
            arguments.a_row_stride = a_.row_stride;
            arguments.a_col_stride = a_.col_stride;
        }
    }

  private:
    const Factor<Real>& a_;
    std::size_t tiles_;
    const Real* packed_ = nullptr;
};

/// Columns [first, first + width) of a product.
template <class Real>
void multiply_panel(const Rows<Real>& a, const Factor<Real>& b, const TreeLeaves& leaves, bool add, std::size_t first,
                    std::size_t width, core::MatrixView<Real> c) noexcept {
    constexpr std::size_t lanes = Native<Real>::lanes;
    constexpr std::size_t panel_width = panel_columns<Real>;
    // From the heap, on first use: what is thread-local by itself is taken from the stack of every thread, used or not.
    thread_local const core::Buffer<Real> scratch(most_depth * panel_width);
    const Panel<Real> panel(
        b, {static_cast<std::int64_t>(leaves.offsets.front()), static_cast<std::int64_t>(leaves.offsets.back())}, first,
        width, a.tiles(), scratch.data());
    const std::size_t vectors = (width + lanes - 1) / lanes;
    const bool chain = leaves.merges.size() == 1;
    const auto run = [&](std::size_t rows, const TileArguments<Real>& arguments) {
        (chain ? chain_tiles<Real>[vectors - 1][rows - 1] : tree_tiles<Real>[vectors - 1][rows - 1])(arguments);
    };
    PrefetchQueue& prefetches = PrefetchQueue::of_this_thread();
    for (std::size_t t = 0; t < a.tiles(); ++t) {
        prefetches.take_some();
        const core::Range part = a.tile(t);
        const auto rows = static_cast<std::size_t>(part.size());
        Real* const target = c.data + static_cast<std::size_t>(part.begin) * c.cols + first;
        TileArguments<Real> arguments;
        a.locate(part, arguments);
        arguments.panel = &panel;
        arguments.leaves = leaves;
        arguments.add = add;
        if (width == vectors * lanes) {
            arguments.c = target;
            arguments.c_stride = c.cols;
            run(rows, arguments);
            continue;
        }
        // A vector would reach over the edge of c.
        alignas(64) std::array<Real, max_tile_rows * panel_width> edge;
        arguments.c = edge.data();
        arguments.c_stride = panel_width;
        for (std::size_t r = 0; add && r < rows; ++r) {
            std::copy_n(target + r * c.cols, width, edge.data() + r * panel_width);
        }
        run(rows, arguments);
        for (std::size_t r = 0; r < rows; ++r) {
            std::copy_n(edge.data() + r * panel_width, width, target + r * c.cols);
        }
    }
}

template <class Real>
void multiply_panels(const Rows<Real>& a, const Factor<Real>& b, const TreeLeaves& leaves, bool add,
                     core::MatrixView<Real> c) noexcept {
    constexpr std::size_t panel_width = panel_columns<Real>;
    const std::size_t panels = (c.cols + panel_width - 1) / panel_width;
    const auto multiply_one = [&](std::size_t p) {
        const std::size_t first = p * panel_width;
        multiply_panel(a, b, leaves, add, first, std::min(panel_width, c.cols - first), c);
    };
    if (product_threads == 1) {
        for (std::size_t p = 0; p < panels; ++p) {
            multiply_one(p);
        }
        return;
    }
#pragma omp parallel for num_threads(product_threads)
    for (std::size_t p = 0; p < panels; ++p) {
        multiply_one(p);
    }
}

template <class Real>
void multiply_in_blocks(const Factor<Real>& a, const Factor<Real>& b, bool add, core::MatrixView<Real> c) noexcept {
    assert(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows);
    constexpr std::array<std::uint8_t, 1> no_merge{0};
    const bool pack =
        a.row_stride * sizeof(Real) % conflicting_distance == 0 && c.cols >= pack_from_panels * panel_columns<Real>;
    std::size_t k = 0;
    do {
        const std::array<std::size_t, 2> depth{0, std::min(a.cols - k, block_depth)};
        const Factor<Real> b_block = b.block(k, depth[1], 0, b.cols);
        for (std::size_t row = 0; row < a.rows; row += block_rows) {
            const std::size_t count = std::min(a.rows - row, block_rows);
            const Factor<Real> a_block = a.block(row, count, k, depth[1]);
            Rows<Real> rows(a_block, max_tile_rows);
            if (pack) {
                thread_local const core::Buffer<Real> scratch(block_rows * block_depth);
                rows.pack(scratch.data());
            }
            multiply_panels(rows, b_block, {depth, no_merge}, add || k > 0, c.block(row, count));
        }
        k += depth[1];
    } while (k < a.cols);
}

} // namespace

template <class Real>
void multiply_add(Factor<Real> a, Factor<Real> b, core::MatrixView<Real> c) {
    multiply_in_blocks(a, b, true, c);
}

template <class Real>
void multiply(Factor<Real> a, Factor<Real> b, core::MatrixView<Real> c) {
    multiply_in_blocks(a, b, false, c);
}

template <class Real>
void multiply_along_tree(Factor<Real> a, Factor<Real> b, const TreeLeaves& leaves, core::MatrixView<Real> c) {
    assert(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows);
    const std::size_t tile_rows = leaves.merges.size() == 1 ? max_tile_rows : max_tile_rows / 2;
    const std::size_t block = packed_values / std::max<std::size_t>(a.cols, 1) / tile_rows * tile_rows;
    const bool pack = a.cols * a.col_stride * sizeof(Real) > far_bytes && c.cols > panel_columns<Real> && block > 0;
    for (std::size_t row = 0; row < a.rows;) {
        const std::size_t count = pack ? std::min(a.rows - row, block) : a.rows;
        const Factor<Real> a_block = a.block(row, count, 0, a.cols);
        Rows<Real> rows(a_block, tile_rows);
        if (pack) {
            thread_local const core::Buffer<Real> scratch(packed_values);
            rows.pack(scratch.data());
        }
        multiply_panels(rows, b, leaves, false, c.block(row, count));
        row += count;
    }
}

void set_product_threads(int threads) {
    product_threads = threads;
}

std::size_t product_scratch_bytes() noexcept {
    return (static_cast<std::size_t>(product_threads) * most_depth * panel_columns<float> + block_rows * block_depth +
            packed_values) *
           sizeof(float);
}

std::string arithmetic_name() {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    constexpr const char* chain = "fused multiply-add";
#else
    constexpr const char* chain = "no fused multiply-add";
#endif
    return fmt::format("{}-bit vectors, {}", 8 * vector_bytes, chain);
}

template void multiply_add(Factor<float>, Factor<float>, core::MatrixView<float>);
template void multiply_add(Factor<double>, Factor<double>, core::MatrixView<double>);
template void multiply(Factor<float>, Factor<float>, core::MatrixView<float>);
template void multiply(Factor<double>, Factor<double>, core::MatrixView<double>);
template void multiply_along_tree(Factor<float>, Factor<float>, const TreeLeaves&, core::MatrixView<float>);
template void multiply_along_tree(Factor<double>, Factor<double>, const TreeLeaves&, core::MatrixView<double>);

} // namespace dtrain::kernels
