#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/kernels/prefetch.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace dtrain::kernels {

/// A factor of a product: element (i, j) of a rows × cols matrix is data[i * row_stride + j * col_stride].
template <class Real>
struct Factor {
    const Real* data = nullptr;
    std::size_t rows = 0;
    std::size_t cols = 0;
    std::size_t row_stride = 0;
    std::size_t col_stride = 1;

    template <class T>
    explicit Factor(core::MatrixView<T> matrix)
        : data(matrix.data), rows(matrix.rows), cols(matrix.cols), row_stride(matrix.cols) {}
    /// A matrix of ones, in the memory of a single one.
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
        return part;
    }
    [[nodiscard]] Factor transposed() const noexcept {
        Factor other = *this;
        std::swap(other.rows, other.cols);
        std::swap(other.row_stride, other.col_stride);
        return other;
    }
};

/// Which of the inner indices of a product belong to which leaf of a summation tree: leaf l has those from offsets[l]
/// to offsets[l + 1], and is followed by merges[l] additions, each of the newest two partial sums
/// (core/shard_tree.hpp).
struct TreeLeaves {
    std::span<const std::size_t> offsets; ///< leaves + 1
    std::span<const std::uint8_t> merges; ///< leaves
};

/// Who computes matrix products: with threads and scratch memory of its own, so that products allocate nothing. For one
/// caller at a time.
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
    /// c = sum over the leaves, along their tree, of a(:, leaf) · b(leaf, :).
    virtual void multiply_along_tree(Factor<float> a, Factor<float> b, const TreeLeaves& leaves,
                                     core::MatrixView<float> c) = 0;
    virtual void multiply_along_tree(Factor<double> a, Factor<double> b, const TreeLeaves& leaves,
                                     core::MatrixView<double> c) = 0;

    /// Has `rows`, instead of what is left of those given before, asked for beside the next products.
    virtual void fetch_beside(const PrefetchQueue& rows) noexcept = 0;

    /// What the last bits of a result depend on, for the log: "512-bit vectors, fused multiply-add".
    [[nodiscard]] virtual std::string arithmetic_name() const = 0;
};

/// Products of which every element is one chain of fused multiply-adds in ascending k, c_ij = (... ((c_ij + a_i0 b_0j)
/// + a_i1 b_1j) ...), without c_ij beginning at zero. How the work is cut into blocks, vectors and threads leaves no
/// trace in the bits, so they are the same for a row whichever other rows are in the call, and on every CPU that has
/// fused multiply-add, whatever the width of its vectors. A BLAS promises nothing of that kind. Partial sums of a tree
/// never leave the first-level cache. arithmetic_name() says what a product computed at the start has shown.
[[nodiscard]] std::unique_ptr<Products> make_exact_products(int threads);

} // namespace dtrain::kernels
