// Matrix products in the way of Goto and van de Geijn ("Anatomy of High-Performance Matrix Multiplication", 2008): c is
// cut into tiles that fit the vector registers, b into panels as wide as a tile, k into blocks whose panel fits a
// cache. The elements of a are read where they are, each multiplied with whole vectors of b.

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

/// Of rows of a, next to each other: a block of them stays in the second-level cache while panel after panel meets it.
constexpr std::size_t packed_bytes = std::size_t{512} << 10;
template <class Real>
constexpr std::size_t packed_values = packed_bytes / sizeof(Real);
template <class Real>
constexpr std::size_t block_rows = packed_values<Real> / block_depth;
/// Copying rows pays if they meet so many panels and are a multiple of so many bytes apart, at which they push each
/// other out of a cache of 4 KiB per way;
constexpr std::size_t pack_from_panels = 8;
constexpr std::size_t conflicting_distance = 2048;
/// and where every panel would fetch their columns anew from behind the second-level cache.
constexpr std::size_t far_bytes = std::size_t{1} << 20;

/// What one thread works with.
struct alignas(64) Worker {
    core::Buffer<std::byte> panel;
    PrefetchQueue upcoming;
};

/// A product as a whole.
template <class Real>
struct Job {
    const Rows<Real>& a;
    const Factor<Real>& b;
    TreeLeaves leaves;
    bool add = false; ///< begin with what is in c, as against zero
    core::MatrixView<Real> c;
};

/// Columns [first, first + width) of a product.
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
        worker.upcoming.take_some();
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

    void fetch_beside(const PrefetchQueue& rows) noexcept override { workers_.front().upcoming = rows; }
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

    /// Along the tree, so all inner indices at once.
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

    /// Of rows that are packed at once, if they are.
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

    /// Whether (1 + ε)² − (1 + 2 ε) is ε², as it is where the product is not rounded by itself.
    bool measure_fusing() noexcept {
        constexpr float epsilon = 0x1p-12F;
        constexpr float factor = 1 + epsilon;
        float difference = -(1 + 2 * epsilon);
        const Factor<float> one(core::MatrixView<const float>{&factor, 1, 1});
        multiply_add(one, one, {&difference, 1, 1});
        return difference == epsilon * epsilon;
    }

    std::vector<Worker> workers_; ///< the first is the calling thread
    core::Buffer<std::byte> packed_rows_;
    bool fuses_ = false;
};

} // namespace

std::unique_ptr<Products> make_exact_products(int threads) {
    return std::make_unique<ExactProducts>(threads);
}

} // namespace dtrain::kernels
