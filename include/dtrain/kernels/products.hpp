#pragma once

#include "dtrain/core/matrix.hpp"

#include <cstddef>
#include <cstdint>
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

// Matrix products of which every element is one chain of fused multiply-adds in ascending k, c_ij = (... ((c_ij +
// a_i0 b_0j) + a_i1 b_1j) ...). How the work is cut into blocks, vectors and threads leaves no trace in the bits, so
// they are the same for a row whichever other rows are in the call, and on every CPU that has fused multiply-add. A
// BLAS promises nothing of that kind. Products allocate nothing.

/// c += a · b.
template <class Real>
void multiply_add(Factor<Real> a, Factor<Real> b, core::MatrixView<Real> c);
/// c = a · b, the chains beginning at zero.
template <class Real>
void multiply(Factor<Real> a, Factor<Real> b, core::MatrixView<Real> c);

/// Which of the inner indices of a product belong to which leaf of a summation tree: leaf l has those from offsets[l]
/// to offsets[l + 1], and is followed by merges[l] additions, each of the newest two partial sums
/// (core/shard_tree.hpp).
struct TreeLeaves {
    std::span<const std::size_t> offsets; ///< leaves + 1
    std::span<const std::uint8_t> merges; ///< leaves
};

/// c = sum over the leaves, along their tree, of a(:, leaf) · b(leaf, :). Partial sums never leave the first-level
/// cache.
template <class Real>
void multiply_along_tree(Factor<Real> a, Factor<Real> b, const TreeLeaves& leaves, core::MatrixView<Real> c);

/// Threads that products may use in this process, 1 unless set.
void set_product_threads(int threads);
/// Bytes that products of floats allocate for good when they are first computed.
[[nodiscard]] std::size_t product_scratch_bytes() noexcept;

/// What the last bits of a result depend on, for the log: "512-bit vectors, fused multiply-add". Builds with fused
/// multiply-add agree, whatever the width of their vectors.
[[nodiscard]] std::string arithmetic_name();

} // namespace dtrain::kernels
