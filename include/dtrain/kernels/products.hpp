#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/kernels/prefetch.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dtrain::kernels {

/// A factor of a product: element (i, j) of a rows × cols matrix is data[i * row_stride + j * col_stride].
template <class Real>
struct Factor {
    const Real* data = nullptr;
    std::size_t rows = 0;
    std::size_t cols = 0;
    std::size_t row_stride = 0;
    std::size_t col_stride = 1;
    const std::uint16_t* kept = nullptr; ///< see Products::keep()

    template <class T>
    explicit Factor(core::MatrixView<T> matrix)
        : data(matrix.data), rows(matrix.rows), cols(matrix.cols), row_stride(matrix.cols) {}
    /// A matrix of ones. It needs no memory, because all its elements are the same constant.
    [[nodiscard]] static Factor ones(std::size_t rows, std::size_t cols) noexcept {
        static constexpr Real one = 1;
        Factor all(core::MatrixView<const Real>{&one, rows, cols});
        all.row_stride = all.col_stride = 0;
        return all;
    }
    [[nodiscard]] Factor block(std::size_t row, std::size_t row_count, std::size_t col,
                               std::size_t col_count) const noexcept {
        Factor part = *this;
        part.data += row * row_stride + col * col_stride;
        part.rows = row_count;
        part.cols = col_count;
        part.kept = nullptr;
        return part;
    }
    [[nodiscard]] Factor transposed() const noexcept {
        Factor other = *this;
        std::swap(other.rows, other.cols);
        std::swap(other.row_stride, other.col_stride);
        other.kept = nullptr;
        return other;
    }
};

/// How the inner indices of a product are divided among the leaves of a summation tree. Leaf l has the indices
/// offsets[l] to offsets[l + 1] - 1. After leaf l, the two newest partial sums are replaced by their sum, merges[l]
/// times (core/shard_tree.hpp).
struct TreeLeaves {
    std::span<const std::size_t> offsets; ///< number of leaves + 1 values
    std::span<const std::uint8_t> merges; ///< one value per leaf
};

/// Computes matrix products. It has its own threads and scratch memory, so products allocate nothing. It must not be
/// called by two threads at once.
class Products {
  public:
    Products() = default;
    virtual ~Products() = default;
    Products(const Products&) = delete;
    Products& operator=(const Products&) = delete;

    /// c += a · b.
    virtual void multiply_add(Factor<float> a, Factor<float> b, core::MatrixView<float> c) = 0;
    virtual void multiply_add(Factor<double> a, Factor<double> b, core::MatrixView<double> c) = 0;
    /// c = a · b.
    virtual void multiply(Factor<float> a, Factor<float> b, core::MatrixView<float> c) = 0;
    virtual void multiply(Factor<double> a, Factor<double> b, core::MatrixView<double> c) = 0;
    /// c = the sum of a(:, leaf) · b(leaf, :) over all leaves, added in the order of their tree.
    virtual void multiply_along_tree(Factor<float> a, Factor<float> b, const TreeLeaves& leaves,
                                     core::MatrixView<float> c) = 0;
    virtual void multiply_along_tree(Factor<double> a, Factor<double> b, const TreeLeaves& leaves,
                                     core::MatrixView<double> c) = 0;

    /// Prefetches `rows` during the next products. This replaces rows of an earlier call that are still pending.
    virtual void prefetch_during_products(const PrefetchQueue& rows) noexcept = 0;

    /// Prepares the second factor of several products: products that round their factors round it once, and keep the
    /// result in `memory`, which has kept_size(b.rows, b.cols) values. Returns the factor for multiply_add() and
    /// multiply(). It is valid until the values of `b` or `memory` change.
    [[nodiscard]] virtual Factor<float> keep(const Factor<float>& b, std::uint16_t* /*memory*/) noexcept { return b; }
    [[nodiscard]] Factor<double> keep(const Factor<double>& b, std::uint16_t* /*memory*/) noexcept { return b; }
    [[nodiscard]] virtual std::size_t kept_size(std::size_t /*rows*/, std::size_t /*cols*/) const noexcept { return 0; }

    /// If the inner indices of a leaf are divided among several products, which add to each other, the bits stay the
    /// same if each product but the last has a multiple of this number of them.
    [[nodiscard]] virtual std::size_t cut_unit() const noexcept { return 1; }

    /// Whether factors are rounded to bfloat16, for layers with products of their own.
    [[nodiscard]] virtual bool rounds_factors() const noexcept { return false; }
    /// Products without rounding of factors, for layers that are too small to gain from it.
    [[nodiscard]] virtual Products& unrounded() noexcept { return *this; }

    /// The arithmetic in use, for the log, such as "x86-64-v4, fused multiply-add": the instructions and the rounding.
    [[nodiscard]] virtual std::string arithmetic_name() const = 0;
    /// The part of it on which the bits of a result depend, for checkpoints, such as "fused multiply-add".
    [[nodiscard]] virtual std::string rounding_name() const = 0;
};

/// Products with reproducible bits. Every element is one chain of fused multiply-adds in ascending k:
/// c_ij = (... ((c_ij + a_i0 b_0j) + a_i1 b_1j) ...), where multiply() starts at 0 instead of c_ij. Blocks, vectors and
/// threads do not change the order of operations. So the bits of a row do not depend on the other rows of the call, and
/// they are the same on every CPU with fused multiply-add. A BLAS does not guarantee this. arithmetic_name() reports
/// what a small product at the start measured. Throws std::bad_alloc.
[[nodiscard]] std::unique_ptr<Products> make_exact_products(int threads);

/// Products by OpenBLAS. It chooses the order of operations, so results agree with exact products to rounding only, and
/// depend on the number of ranks. Throws like the constructor of OpenBlas.
[[nodiscard]] std::unique_ptr<Products> make_openblas_products(int threads);

/// Products of factors that are rounded to bfloat16, with sums in float. Each leaf of a tree is added up in the order
/// of kernels::Bfloat16Order, from its first inner index, so the bits depend on that order alone. Products with
/// Factor::ones() are sums, and these are exact products, as are all products of doubles. Throws std::bad_alloc, and
/// core::Error (bad_config) if this CPU does not follow the order that its kernels define.
[[nodiscard]] std::unique_ptr<Products> make_bfloat16_products(int threads);

[[nodiscard]] std::vector<std::string> product_names();
/// `name` must be one of product_names(); otherwise throws std::out_of_range.
[[nodiscard]] std::unique_ptr<Products> make_products(std::string_view name, int threads);

} // namespace dtrain::kernels
