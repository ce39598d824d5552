// Matrix products as in Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008). c is cut
// into tiles that fit the vector registers. b is cut into panels of columns as wide as a tile. The inner index k is cut
// into blocks so that a block of a panel fits into a cache. Each element of a is multiplied with whole vectors of b.

#include "dtrain/core/memory_book.hpp"
#include "dtrain/kernels/products.hpp"

#include "operands.hpp"
#include "tiles.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace dtrain::kernels {
namespace {

using namespace exact;

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

/// The arguments of a product, for all its panels.
template <class Real>
struct Job {
    const Rows<Real>& a;
    const Factor<Real>& b;
    TreeLeaves leaves;
    bool add = false; ///< start with the values in c instead of zero
    core::MatrixView<Real> c;
};

/// Computes columns [first, first + width) of a product.
template <class Real>
void multiply_panel(const Job<Real>& job, std::size_t first, std::size_t width, Worker& worker) noexcept {
    constexpr std::size_t lanes = Native<Real>::lanes;
    constexpr std::size_t panel_width = panel_columns<Real>;
    const auto& [a, b, leaves, add, c] = job;
    const Panel<Real> panel(
        b, {static_cast<std::int64_t>(leaves.offsets.front()), static_cast<std::int64_t>(leaves.offsets.back())}, first,
        width, a.tiles(), reinterpret_cast<Real*>(worker.panel.data()));
    const std::size_t vectors = (width + lanes - 1) / lanes;
    const bool chain = leaves.merges.size() == 1;
    const auto run = [&](std::size_t rows, const TileArguments<Real>& arguments) {
        (chain ? chain_tiles<Real>[vectors - 1][rows - 1] : tree_tiles<Real>[vectors - 1][rows - 1])(arguments);
    };
    for (std::size_t t = 0; t < a.tiles(); ++t) {
        worker.upcoming.prefetch_some();
        const core::Range part = a.tile(t);
        const auto rows = static_cast<std::size_t>(part.size());
        Real* const target = c.data + static_cast<std::size_t>(part.begin) * c.cols + first;
        TileArguments<Real> arguments;
        arguments.a = a.at(part);
        arguments.panel = &panel;
        arguments.leaves = leaves;
        arguments.add = add;
        if (width == vectors * lanes) {
            arguments.c = target;
            arguments.c_stride = c.cols;
            run(rows, arguments);
            continue;
        }
        // A vector would extend beyond the right edge of c, so the tile is computed in a copy.
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

class ExactProducts final : public Products {
  public:
    explicit ExactProducts(int threads) : workers_(static_cast<std::size_t>(threads)) {
        core::MemoryBook book;
        for (Worker& worker : workers_) {
            book.grant(panel_bytes, worker.panel);
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
        return fmt::format("{}-bit vectors, {}fused multiply-add", 8 * vector_bytes, fuses_ ? "" : "no ");
    }

  private:
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
            for (std::size_t row = 0; row < a.rows; row += block_rows<Real>) {
                const std::size_t count = std::min(a.rows - row, block_rows<Real>);
                multiply_rows(a.block(row, count, k, depth[1]), max_tile_rows, pack, b_block, {depth, no_merge},
                              add || k > 0, c.block(row, count));
            }
            k += depth[1];
        } while (k < a.cols);
    }

    /// A product along a tree takes all inner indices at once, because its partial sums stay in a tile.
    template <class Real>
    void multiply_whole(const Factor<Real>& a, const Factor<Real>& b, const TreeLeaves& leaves,
                        core::MatrixView<Real> c) noexcept {
        assert(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows);
        const std::size_t tile_rows = leaves.merges.size() == 1 ? max_tile_rows : max_tile_rows / 2;
        const std::size_t block = packed_values<Real> / std::max<std::size_t>(a.cols, 1) / tile_rows * tile_rows;
        const bool pack = a.cols * a.col_stride * sizeof(Real) > far_bytes && c.cols > panel_columns<Real> && block > 0;
        for (std::size_t row = 0; row < a.rows;) {
            const std::size_t count = pack ? std::min(a.rows - row, block) : a.rows;
            multiply_rows(a.block(row, count, 0, a.cols), tile_rows, pack, b, leaves, false, c.block(row, count));
            row += count;
        }
    }

    /// The product of one block of rows of a. If `pack` is true, the block is copied first.
    template <class Real>
    void multiply_rows(const Factor<Real>& a, std::size_t tile_rows, bool pack, const Factor<Real>& b,
                       const TreeLeaves& leaves, bool add, core::MatrixView<Real> c) noexcept {
        constexpr std::size_t panel_width = panel_columns<Real>;
        Rows<Real> rows(a, tile_rows);
        if (pack) {
            rows.pack(reinterpret_cast<Real*>(packed_rows_.data()));
        }
        const Job<Real> job{rows, b, leaves, add, c};
        const std::size_t panels = (c.cols + panel_width - 1) / panel_width;
        const auto multiply_one = [&](std::size_t p, Worker& worker) {
            const std::size_t first = p * panel_width;
            multiply_panel(job, first, std::min(panel_width, c.cols - first), worker);
        };
#ifdef _OPENMP
        if (const int threads = static_cast<int>(workers_.size()); threads > 1) {
#pragma omp parallel for num_threads(threads)
            for (std::size_t p = 0; p < panels; ++p) {
                multiply_one(p, workers_[static_cast<std::size_t>(omp_get_thread_num())]);
            }
            return;
        }
#endif
        for (std::size_t p = 0; p < panels; ++p) {
            multiply_one(p, workers_.front());
        }
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

    std::vector<Worker> workers_; ///< the first belongs to the calling thread
    core::Buffer<std::byte> packed_rows_;
    bool fuses_ = false;
};

} // namespace

std::unique_ptr<Products> make_exact_products(int threads) {
    return std::make_unique<ExactProducts>(threads);
}

} // namespace dtrain::kernels
