// Products by OpenBLAS, for CPUs that the own kernels do not know, and to measure what exactness costs.

#include "dtrain/kernels/openblas.hpp"
#include "dtrain/kernels/products.hpp"

#include <fmt/format.h>

#include <cassert>

namespace dtrain::kernels {
namespace {

class OpenBlasProducts final : public Products {
  public:
    explicit OpenBlasProducts(int threads) : blas_(threads), exact_(make_exact_products(threads)) {}

    void multiply_add(Factor<float> a, Factor<float> b, core::MatrixView<float> c) override { compute(a, b, true, c); }
    void multiply_add(Factor<double> a, Factor<double> b, core::MatrixView<double> c) override {
        compute(a, b, true, c);
    }
    void multiply(Factor<float> a, Factor<float> b, core::MatrixView<float> c) override { compute(a, b, false, c); }
    void multiply(Factor<double> a, Factor<double> b, core::MatrixView<double> c) override { compute(a, b, false, c); }
    void multiply_along_tree(Factor<float> a, Factor<float> b, const TreeLeaves& leaves,
                             core::MatrixView<float> c) override {
        compute_leaves(a, b, leaves, c);
    }
    void multiply_along_tree(Factor<double> a, Factor<double> b, const TreeLeaves& leaves,
                             core::MatrixView<double> c) override {
        compute_leaves(a, b, leaves, c);
    }

    void prefetch_during_products(const PrefetchQueue& rows) noexcept override {
        exact_->prefetch_during_products(rows);
    }
    [[nodiscard]] std::string arithmetic_name() const override {
        return fmt::format("{} for dense and lstm layers, results agree to rounding only; {}", blas_.name(),
                           exact_->arithmetic_name());
    }
    [[nodiscard]] std::string rounding_name() const override {
        return fmt::format("{}; {}", blas_.name(), exact_->rounding_name());
    }

  private:
    /// Whether BLAS can read the matrix: one of the strides is 1.
    template <class Real>
    static bool is_readable(const Factor<Real>& factor) noexcept {
        return factor.col_stride == 1 || factor.row_stride == 1;
    }
    template <class Real>
    static OpenBlas::Operand<Real> operand(const Factor<Real>& factor) noexcept {
        const bool transposed = factor.col_stride != 1;
        return {factor.data, transposed ? factor.col_stride : factor.row_stride, transposed};
    }

    template <class Real>
    void compute(const Factor<Real>& a, const Factor<Real>& b, bool add, core::MatrixView<Real> c) {
        assert(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows);
        if (!is_readable(a) || !is_readable(b) || c.size() == 0 || a.cols == 0) { // for example a matrix of ones
            add ? exact_->multiply_add(a, b, c) : exact_->multiply(a, b, c);
            return;
        }
        blas_.multiply(operand(a), operand(b), c.data, a.rows, b.cols, a.cols, add);
    }

    /// The leaves are next to each other, so one product adds them up, in an order that OpenBLAS chooses.
    template <class Real>
    void compute_leaves(const Factor<Real>& a, const Factor<Real>& b, const TreeLeaves& leaves,
                        core::MatrixView<Real> c) {
        const std::size_t first = leaves.offsets.front();
        const std::size_t count = leaves.offsets.back() - first;
        compute(a.block(0, a.rows, first, count), b.block(first, count, 0, b.cols), false, c);
    }

    OpenBlas blas_;
    std::unique_ptr<Products> exact_;
};

} // namespace

std::unique_ptr<Products> make_openblas_products(int threads) {
    return std::make_unique<OpenBlasProducts>(threads);
}

} // namespace dtrain::kernels
