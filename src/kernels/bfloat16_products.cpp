// Products of float matrices that are rounded to bfloat16 first. Both factors are copied in the arrangement that the
// kernels read (kernels/table.hpp). The copies have a fixed size and stay in the caches: c is cut into blocks of rows,
// for which a is copied, and into panels of columns, for which b is copied. Threads compute different panels.

#include "dtrain/core/error.hpp"
#include "dtrain/core/memory_book.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/kernels/products.hpp"

#include "reference.hpp"
#include "workers.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <vector>

namespace dtrain::kernels {
namespace {

using core::Buffer;
using core::MatrixView;

/// The largest copies: 4 MB of a, and 1 MB of a panel of b.
constexpr std::size_t max_a_values = std::size_t{2} << 20;
constexpr std::size_t max_b_values = std::size_t{1} << 19;
/// A tile of c, whose partial sums along a tree stay in the second-level cache.
constexpr std::size_t tile_rows = 64;
constexpr std::size_t tile_columns = 64;
/// The largest number of inner indices that are multiplied in one call of a kernel.
constexpr std::size_t max_piece = 4096;
static_assert(max_piece % bfloat16_depth == 0); // so a piece of a kept factor begins at a step

/// Inner indices that are copied and multiplied at once: a leaf of a tree or a part of it.
struct Piece {
    std::size_t begin = 0;
    std::size_t depth = 0;
    std::size_t place = 0;  ///< in the copies, in inner indices
    bool continues = false; ///< adds to the sum of the piece before it
    bool ends_leaf = false;
    std::uint8_t merges = 0; ///< after this piece, see TreeLeaves
};

/// Where the copies of the factors are.
struct Copies {
    const std::uint16_t* a = nullptr;
    std::size_t a_stride = 0;
    const std::uint16_t* b = nullptr;
    std::size_t panel_stride = 0;
};

/// A tile of c.
struct Tile {
    float* c = nullptr;
    std::size_t stride = 0;
    std::size_t rows = 0;
    std::size_t cols = 0;
};

struct alignas(64) RoundingWorker {
    Buffer<std::uint16_t> b;
    Buffer<float> partial_sums; ///< a tile for each level of a tree, from the deepest to level 1
};

/// Calls action(piece) in the order of the inner indices. An empty leaf is an empty piece.
template <class Action>
void for_each_piece(const TreeLeaves& leaves, Action&& action) {
    Piece piece;
    for (std::size_t l = 0; l < leaves.merges.size(); ++l) {
        piece.continues = false;
        piece.begin = leaves.offsets[l];
        do {
            piece.depth = std::min(leaves.offsets[l + 1] - piece.begin, max_piece);
            piece.ends_leaf = piece.begin + piece.depth == leaves.offsets[l + 1];
            piece.merges = piece.ends_leaf ? leaves.merges[l] : 0;
            action(piece);
            piece.place += in_whole_steps(piece.depth);
            piece.begin += piece.depth;
            piece.continues = true;
        } while (piece.begin < leaves.offsets[l + 1]);
    }
}

class Bfloat16Products final : public Products {
  public:
    explicit Bfloat16Products(int threads)
        : exact_(make_exact_products(threads)), workers_(static_cast<std::size_t>(threads)) {
        core::MemoryBook book;
        book.grant(max_a_values, a_);
        for (RoundingWorker& worker : workers_) {
            book.grant(max_b_values, worker.b);
            book.grant(core::max_tree_depth * tile_rows * tile_columns, worker.partial_sums);
        }
        require_defined_bits();
    }

    void multiply_add(Factor<float> a, Factor<float> b, MatrixView<float> c) override {
        is_sum(a) ? exact_->multiply_add(a, b, c) : multiply_chain(a, b, true, c);
    }
    void multiply(Factor<float> a, Factor<float> b, MatrixView<float> c) override {
        is_sum(a) ? exact_->multiply(a, b, c) : multiply_chain(a, b, false, c);
    }
    void multiply_along_tree(Factor<float> a, Factor<float> b, const TreeLeaves& leaves, MatrixView<float> c) override {
        is_sum(a) ? exact_->multiply_along_tree(a, b, leaves, c) : multiply_tree(a, b, leaves, c);
    }
    void multiply_add(Factor<double> a, Factor<double> b, MatrixView<double> c) override {
        exact_->multiply_add(a, b, c);
    }
    void multiply(Factor<double> a, Factor<double> b, MatrixView<double> c) override { exact_->multiply(a, b, c); }
    void multiply_along_tree(Factor<double> a, Factor<double> b, const TreeLeaves& leaves,
                             MatrixView<double> c) override {
        exact_->multiply_along_tree(a, b, leaves, c);
    }

    using Products::keep;
    [[nodiscard]] Factor<float> keep(const Factor<float>& b, std::uint16_t* memory) noexcept override {
        kernels_.round_panels({b.data, b.row_stride, b.col_stride}, b.rows, b.cols, memory, kept_panel_stride(b.rows));
        Factor<float> kept = b;
        kept.kept = memory;
        return kept;
    }
    [[nodiscard]] std::size_t kept_size(std::size_t rows, std::size_t cols) const noexcept override {
        return (cols + bfloat16_columns - 1) / bfloat16_columns * kept_panel_stride(rows);
    }

    void prefetch_during_products(const PrefetchQueue& rows) noexcept override {
        upcoming_ = rows;
        exact_->prefetch_during_products(rows); // small layers call it instead
    }
    [[nodiscard]] std::size_t cut_unit() const noexcept override { return bfloat16_depth; }
    [[nodiscard]] bool rounds_factors() const noexcept override { return true; }
    [[nodiscard]] Products& unrounded() noexcept override { return *exact_; }
    [[nodiscard]] std::string arithmetic_name() const override {
        return fmt::format("{}; {}, by {}", exact_->arithmetic_name(), order_name(), kernels_.unit);
    }
    [[nodiscard]] std::string rounding_name() const override {
        return fmt::format("{}; {}", exact_->rounding_name(), order_name());
    }

  private:
    [[nodiscard]] const char* order_name() const noexcept {
        return kernels_.order == Bfloat16Order::two_chains ? "bfloat16 products in the order of TDPBF16PS"
                                                           : "bfloat16 products in the order of VDPBF16PS";
    }

    /// A product with Factor::ones() is a sum of rows, and sums are computed in float.
    static bool is_sum(const Factor<float>& a) noexcept { return a.row_stride == 0 && a.col_stride == 0; }

    /// Calls action(first, width, worker) for panels of up to `max_width` columns.
    template <class Action>
    void for_each_panel(std::size_t columns, std::size_t max_width, Action&& action) {
        share_among(workers_, (columns + max_width - 1) / max_width, [&](std::size_t i, RoundingWorker& worker) {
            action(i * max_width, std::min(max_width, columns - i * max_width), worker);
        });
    }

    void copy_a(const Factor<float>& a, std::size_t place, std::size_t stride) noexcept {
        kernels_.round_rows({a.data, a.row_stride, a.col_stride}, a.rows, a.cols, a_.data() + place, stride);
    }
    void copy_b(const Factor<float>& b, std::size_t place, std::size_t panel_stride, RoundingWorker& worker) noexcept {
        kernels_.round_panels({b.data, b.row_stride, b.col_stride}, b.rows, b.cols,
                              worker.b.data() + place * bfloat16_columns, panel_stride);
    }

    /// A product of one chain, a piece of inner indices after the other. Each piece adds to c.
    void multiply_chain(const Factor<float>& a, const Factor<float>& b, bool add, MatrixView<float> c) {
        assert(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows);
        const std::array<std::size_t, 2> offsets{0, a.cols};
        constexpr std::array<std::uint8_t, 1> no_merge{0};
        for_each_piece({offsets, no_merge}, [&](const Piece& piece) {
            const std::size_t stride = row_stride(piece.depth);
            const std::size_t panel_stride = in_whole_steps(piece.depth) * bfloat16_columns;
            const std::size_t block = stride == 0 ? a.rows : max_a_values / stride;
            for (std::size_t i = 0; i < a.rows; i += block) {
                const std::size_t rows = std::min(block, a.rows - i);
                copy_a(a.block(i, rows, piece.begin, piece.depth), 0, stride);
                for_each_panel(c.cols, tile_columns, [&](std::size_t j, std::size_t width, RoundingWorker& worker) {
                    prefetch(rows, worker);
                    Copies copies{a_.data(), stride, worker.b.data(), panel_stride};
                    if (b.kept != nullptr) {
                        copies.panel_stride = kept_panel_stride(b.rows);
                        copies.b = b.kept + j / bfloat16_columns * copies.panel_stride + piece.begin * bfloat16_columns;
                    } else {
                        copy_b(b.block(piece.begin, piece.depth, j, width), 0, panel_stride, worker);
                    }
                    float* const to = c.data + i * c.cols + j;
                    kernels_.multiply({.a = copies.a,
                                       .a_stride = copies.a_stride,
                                       .rows = rows,
                                       .b = copies.b,
                                       .panel_stride = copies.panel_stride,
                                       .cols = width,
                                       .depth = piece.depth,
                                       .start = add || piece.continues ? to : nullptr,
                                       .start_stride = c.cols,
                                       .c = to,
                                       .c_stride = c.cols});
                });
            }
        });
    }

    /// All leaves are copied before the tiles of c are computed, if they fit the copies.
    void multiply_tree(const Factor<float>& a, const Factor<float>& b, const TreeLeaves& leaves, MatrixView<float> c) {
        assert(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows);
        std::size_t depth = 0;
        for_each_piece(leaves, [&](const Piece& piece) { depth += in_whole_steps(piece.depth); });
        const std::size_t stride = row_stride(depth);
        const std::size_t panel_stride = depth * bfloat16_columns;
        if (stride * tile_rows > max_a_values || panel_stride > max_b_values) {
            multiply_long_tree(a, b, leaves, c);
            return;
        }
        const std::size_t block = stride == 0 ? a.rows : max_a_values / stride;
        const std::size_t max_width = panel_stride == 0 ? tile_columns : max_b_values / panel_stride * bfloat16_columns;
        for (std::size_t i = 0; i < a.rows; i += block) {
            const std::size_t rows = std::min(block, a.rows - i);
            for_each_piece(leaves, [&](const Piece& piece) {
                copy_a(a.block(i, rows, piece.begin, piece.depth), piece.place, stride);
            });
            for_each_panel(c.cols, std::min(tile_columns, max_width),
                           [&](std::size_t j, std::size_t width, RoundingWorker& worker) {
                               prefetch(rows, worker);
                               for_each_piece(leaves, [&](const Piece& piece) {
                                   copy_b(b.block(piece.begin, piece.depth, j, width), piece.place, panel_stride,
                                          worker);
                               });
                               for (std::size_t r = 0; r < rows; r += tile_rows) {
                                   const std::size_t height = std::min(tile_rows, rows - r);
                                   const Tile tile{c.data + (i + r) * c.cols + j, c.cols, height, width};
                                   add_pieces(leaves, tile, worker, [&](const Piece& piece) {
                                       return Copies{a_.data() + r * stride + piece.place, stride,
                                                     worker.b.data() + piece.place * bfloat16_columns, panel_stride};
                                   });
                               }
                           });
        }
    }

    /// Copies the pieces again for each tile.
    void multiply_long_tree(const Factor<float>& a, const Factor<float>& b, const TreeLeaves& leaves,
                            MatrixView<float> c) {
        RoundingWorker& worker = workers_.front();
        const std::size_t stride = row_stride(max_piece);
        constexpr std::size_t panel_stride = max_piece * bfloat16_columns;
        for (std::size_t i = 0; i < c.rows; i += tile_rows) {
            const std::size_t height = std::min(tile_rows, c.rows - i);
            for (std::size_t j = 0; j < c.cols; j += tile_columns) {
                const std::size_t width = std::min(tile_columns, c.cols - j);
                const Tile tile{c.data + i * c.cols + j, c.cols, height, width};
                add_pieces(leaves, tile, worker, [&](const Piece& piece) {
                    copy_a(a.block(i, height, piece.begin, piece.depth), 0, stride);
                    copy_b(b.block(piece.begin, piece.depth, j, width), 0, panel_stride, worker);
                    return Copies{a_.data(), stride, worker.b.data(), panel_stride};
                });
            }
        }
    }

    /// Computes a tile of c as a sum along a tree. copies_of(piece) are the factors of a piece.
    template <class CopiesOf>
    void add_pieces(const TreeLeaves& leaves, const Tile& tile, RoundingWorker& worker, CopiesOf&& copies_of) {
        constexpr std::size_t sum_size = tile_rows * tile_columns;
        const auto sum_at = [&](std::size_t level) { // level 0 is c itself
            return level == 0 ? tile.c : worker.partial_sums.data() + (core::max_tree_depth - level) * sum_size;
        };
        std::size_t level = 0; // of the leaf
        for_each_piece(leaves, [&](const Piece& piece) {
            const Copies copies = copies_of(piece);
            const std::size_t result_level = level - piece.merges;
            kernels_.multiply({.a = copies.a,
                               .a_stride = copies.a_stride,
                               .rows = tile.rows,
                               .b = copies.b,
                               .panel_stride = copies.panel_stride,
                               .cols = tile.cols,
                               .depth = piece.depth,
                               .start = piece.continues ? sum_at(level) : nullptr,
                               .start_stride = level == 0 ? tile.stride : tile_columns,
                               .c = sum_at(result_level),
                               .c_stride = result_level == 0 ? tile.stride : tile_columns,
                               .merges = piece.merges,
                               .lefts = piece.merges > 1 ? sum_at(level - 1) : nullptr,
                               .left_size = sum_size,
                               .left_stride = tile_columns});
            level = piece.ends_leaf ? result_level + 1 : level;
        });
    }

    /// Prefetches some of the upcoming rows, while `rows` rows of c are computed.
    void prefetch(std::size_t rows, const RoundingWorker& worker) noexcept {
        constexpr std::size_t rows_per_call = 16;
        for (std::size_t r = 0; &worker == workers_.data() && r < rows; r += rows_per_call) {
            upcoming_.prefetch_some();
        }
    }

    static constexpr std::size_t kept_panel_stride(std::size_t depth) noexcept {
        return in_whole_steps(depth) * bfloat16_columns;
    }

    /// The distance of rows in the copy of a. At a distance of a multiple of 2 KiB they would evict each other from the
    /// first-level cache.
    static constexpr std::size_t row_stride(std::size_t depth) noexcept {
        return in_whole_steps(depth) + (in_whole_steps(depth) % 1024 == 0 && depth > 0 ? bfloat16_depth : 0);
    }

    /// Throws if this CPU does not compute the bits that the order of its kernels defines, without merges. The values
    /// are of different size, so that each order of additions rounds differently. The product needs several tiles of
    /// any kernel, of which some are at an edge.
    void require_defined_bits() const {
        constexpr std::size_t rows = bfloat16_columns + 3;
        constexpr std::size_t cols = bfloat16_columns + 5;
        constexpr std::size_t depth = 4 * bfloat16_depth;
        constexpr std::size_t panel = depth * bfloat16_columns;
        std::array<float, depth * cols> values;
        for (std::size_t i = 0; i < values.size(); ++i) {
            values[i] = std::ldexp(static_cast<float>(i * 37 % 251) - 125, static_cast<int>(i * 11 % 17) - 8);
        }
        std::array<std::uint16_t, rows * depth> a;
        std::array<std::uint16_t, 2 * panel> b;
        kernels_.round_rows({values.data() + 5, depth, 1}, rows, depth, a.data(), depth);
        kernels_.round_panels({values.data(), cols, 1}, depth, cols, b.data(), panel);
        std::array<float, rows * cols> computed{};
        std::array<float, rows * cols> defined{};
        const auto job = [&](auto& c) {
            return Bfloat16Product{.a = a.data(),
                                   .a_stride = depth,
                                   .rows = rows,
                                   .b = b.data(),
                                   .panel_stride = panel,
                                   .cols = cols,
                                   .depth = depth,
                                   .c = c.data(),
                                   .c_stride = cols};
        };
        kernels_.multiply(job(computed));
        reference::multiply_bfloat16(job(defined), kernels_.order);
        if (computed != defined) {
            throw core::Error(core::ExitCode::bad_config,
                              fmt::format("{} of this CPU does not add up in the defined order. Set DTRAIN_ISA to an "
                                          "instruction set without it",
                                          kernels_.unit));
        }
    }

    const Bfloat16Kernels& kernels_ = table().bfloat16;
    std::unique_ptr<Products> exact_;
    std::vector<RoundingWorker> workers_; ///< the first belongs to the calling thread
    Buffer<std::uint16_t> a_;
    PrefetchQueue upcoming_; ///< for the first worker
};

} // namespace

std::unique_ptr<Products> make_bfloat16_products(int threads) {
    return std::make_unique<Bfloat16Products>(threads);
}

} // namespace dtrain::kernels
