// Matrix products as in Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008). c is cut
// into tiles that fit the vector registers. b is cut into panels of columns as wide as a tile. The inner index k is cut
// into blocks so that a block of a panel fits into a cache. Each element of a is multiplied with whole vectors of b.
// This file divides a product among panels and threads; the kernels of an instruction set (simd/products.cpp) compute a
// panel.

#include "dtrain/core/memory_book.hpp"
#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/kernels/products.hpp"

#include "workers.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <vector>

namespace dtrain::kernels {
namespace {

/// The largest number of inner indices of one call of a kernel.
constexpr std::size_t block_depth = 512;
/// The size of a block of rows of a. The block stays in the second-level cache while all panels are multiplied with it.
constexpr std::size_t packed_bytes = std::size_t{512} << 10;
template <class Real>
constexpr std::size_t packed_values = packed_bytes / sizeof(Real);
template <class Real>
constexpr std::size_t block_rows = packed_values<Real> / block_depth;
/// Rows at a distance of a multiple of `conflicting_distance` bytes evict each other from a cache with 4 KiB per way.
/// Copying such rows of a pays if at least `pack_from_panels` panels are multiplied with them.
constexpr std::size_t conflicting_distance = 2048;
constexpr std::size_t pack_from_panels = 8;
/// For a product along a tree, copying also pays if the columns of a span more than `far_bytes`: then every panel would
/// fetch them again from beyond the second-level cache.
constexpr std::size_t far_bytes = std::size_t{1} << 20;

/// The memory of one thread.
struct alignas(64) Worker {
    core::Buffer<std::byte> panel;
    PrefetchQueue upcoming;
};

template <class Real>
Elements<Real> elements_of(const Factor<Real>& factor) noexcept {
    return {factor.data, factor.row_stride, factor.col_stride};
}

class ExactProducts final : public Products {
  public:
    explicit ExactProducts(int threads) : workers_(static_cast<std::size_t>(threads)) {
        core::MemoryBook book;
        for (Worker& worker : workers_) {
            book.grant(std::max(table_.in_float.products.panel_bytes, table_.in_double.products.panel_bytes),
                       worker.panel);
        }
        book.grant(packed_bytes, packed_rows_);
        fuses_ = measure_fusing();
    }

    void multiply_add(Factor<float> a, Factor<float> b, core::MatrixView<float> c) override {
        multiply_in_blocks(a, b, true, c);
    }
    void multiply_add(Factor<double> a, Factor<double> b, core::MatrixView<double> c) override {
        multiply_in_blocks(a, b, true, c);
    }
    void multiply(Factor<float> a, Factor<float> b, core::MatrixView<float> c) override {
        multiply_in_blocks(a, b, false, c);
    }
    void multiply(Factor<double> a, Factor<double> b, core::MatrixView<double> c) override {
        multiply_in_blocks(a, b, false, c);
    }
    void multiply_along_tree(Factor<float> a, Factor<float> b, const TreeLeaves& leaves,
                             core::MatrixView<float> c) override {
        multiply_whole(a, b, leaves, c);
    }
    void multiply_along_tree(Factor<double> a, Factor<double> b, const TreeLeaves& leaves,
                             core::MatrixView<double> c) override {
        multiply_whole(a, b, leaves, c);
    }

    void prefetch_during_products(const PrefetchQueue& rows) noexcept override { workers_.front().upcoming = rows; }
    [[nodiscard]] std::string arithmetic_name() const override {
        return fmt::format("{}, {}", table_.name, rounding_name());
    }
    [[nodiscard]] std::string rounding_name() const override {
        return fuses_ ? "fused multiply-add" : "no fused multiply-add";
    }

  private:
    template <class Real>
    [[nodiscard]] const ProductKernels<Real>& kernels() const noexcept {
        return table_.network<Real>().products;
    }

    template <class Real>
    [[nodiscard]] std::size_t tile_rows(const TreeLeaves& leaves) const noexcept {
        return leaves.merges.size() == 1 ? kernels<Real>().tile_rows : kernels<Real>().tree_tile_rows;
    }

    template <class Real>
    void multiply_in_blocks(const Factor<Real>& a, const Factor<Real>& b, bool add, core::MatrixView<Real> c) noexcept {
        assert(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows);
        constexpr std::array<std::uint8_t, 1> no_merge{0};
        const bool pack = a.row_stride * sizeof(Real) % conflicting_distance == 0 &&
                          c.cols >= pack_from_panels * kernels<Real>().panel_columns;
        std::size_t k = 0;
        do {
            const std::array<std::size_t, 2> depth{0, std::min(a.cols - k, block_depth)};
            const Factor<Real> b_block = b.block(k, depth[1], 0, b.cols);
            for (std::size_t row = 0; row < a.rows; row += block_rows<Real>) {
                const std::size_t count = std::min(a.rows - row, block_rows<Real>);
                multiply_rows(a.block(row, count, k, depth[1]), pack, b_block, {depth, no_merge}, add || k > 0,
                              c.block(row, count));
            }
            k += depth[1];
        } while (k < a.cols);
    }

    /// A product along a tree takes all inner indices at once, because its partial sums stay in a tile.
    template <class Real>
    void multiply_whole(const Factor<Real>& a, const Factor<Real>& b, const TreeLeaves& leaves,
                        core::MatrixView<Real> c) noexcept {
        assert(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows);
        const std::size_t tile = tile_rows<Real>(leaves);
        const std::size_t block = packed_values<Real> / std::max<std::size_t>(a.cols, 1) / tile * tile;
        const bool pack =
            a.cols * a.col_stride * sizeof(Real) > far_bytes && c.cols > kernels<Real>().panel_columns && block > 0;
        for (std::size_t row = 0; row < a.rows;) {
            const std::size_t count = pack ? std::min(a.rows - row, block) : a.rows;
            multiply_rows(a.block(row, count, 0, a.cols), pack, b, leaves, false, c.block(row, count));
            row += count;
        }
    }

    /// The product of one block of rows of a. If `pack` is true, the block is copied first.
    template <class Real>
    void multiply_rows(const Factor<Real>& a, bool pack, const Factor<Real>& b, const TreeLeaves& leaves, bool add,
                       core::MatrixView<Real> c) noexcept {
        const ProductKernels<Real>& use = kernels<Real>();
        ProductJob<Real> job{.a = elements_of(a),
                             .rows = a.rows,
                             .depth = a.cols,
                             .tile_rows = tile_rows<Real>(leaves),
                             .b = elements_of(b),
                             .offsets = leaves.offsets.data(),
                             .merges = leaves.merges.data(),
                             .leaves = leaves.merges.size(),
                             .add = add,
                             .c = c.data,
                             .c_stride = c.cols};
        if (pack) {
            auto* const packed = reinterpret_cast<Real*>(packed_rows_.data());
            use.pack_rows(job, packed);
            job.packed_a = packed;
        }
        const std::size_t panels = (c.cols + use.panel_columns - 1) / use.panel_columns;
        share_among(workers_, panels, [&](std::size_t p, Worker& worker) {
            const std::size_t first = p * use.panel_columns;
            use.multiply_panel(job, first, std::min(use.panel_columns, c.cols - first),
                               reinterpret_cast<Real*>(worker.panel.data()), worker.upcoming);
        });
    }

    /// Whether products are fused with additions: then (1 + ε)² − (1 + 2 ε) gives ε², because the square is not
    /// rounded.
    bool measure_fusing() noexcept {
        constexpr float epsilon = 0x1p-12F;
        constexpr float factor = 1 + epsilon;
        float difference = -(1 + 2 * epsilon);
        const Factor<float> one(core::MatrixView<const float>{&factor, 1, 1});
        multiply_add(one, one, {&difference, 1, 1});
        return difference == epsilon * epsilon;
    }

    const Table& table_ = kernels::table();
    std::vector<Worker> workers_; ///< the first belongs to the calling thread
    core::Buffer<std::byte> packed_rows_;
    bool fuses_ = false;
};

} // namespace

std::unique_ptr<Products> make_exact_products(int threads) {
    return std::make_unique<ExactProducts>(threads);
}

} // namespace dtrain::kernels
