#include "dtrain/core/blas.hpp"

#include <cblas.h>

#include <cassert>

namespace dtrain::core {
namespace {

constexpr CBLAS_TRANSPOSE cblas(Op op) {
    return op == Op::none ? CblasNoTrans : CblasTrans;
}

} // namespace

template <class Real>
void gemm(Op op_a, Op op_b, Real alpha, MatrixView<const Real> a, MatrixView<const Real> b, Real beta,
          MatrixView<Real> c) {
    const std::size_t inner = op_a == Op::none ? a.cols : a.rows;
    assert((op_a == Op::none ? a.rows : a.cols) == c.rows);
    assert((op_b == Op::none ? b.cols : b.rows) == c.cols);
    assert((op_b == Op::none ? b.rows : b.cols) == inner);
    const auto m = static_cast<blasint>(c.rows);
    const auto n = static_cast<blasint>(c.cols);
    const auto k = static_cast<blasint>(inner);
    const auto lda = static_cast<blasint>(a.cols);
    const auto ldb = static_cast<blasint>(b.cols);
    if constexpr (std::is_same_v<Real, float>) {
        cblas_sgemm(CblasRowMajor, cblas(op_a), cblas(op_b), m, n, k, alpha, a.data, lda, b.data, ldb, beta, c.data, n);
    } else {
        cblas_dgemm(CblasRowMajor, cblas(op_a), cblas(op_b), m, n, k, alpha, a.data, lda, b.data, ldb, beta, c.data, n);
    }
}

template void gemm(Op, Op, float, MatrixView<const float>, MatrixView<const float>, float, MatrixView<float>);
template void gemm(Op, Op, double, MatrixView<const double>, MatrixView<const double>, double, MatrixView<double>);

void set_blas_threads(int threads) {
    openblas_set_num_threads(threads);
}

std::string blas_name() {
    return openblas_get_config();
}

} // namespace dtrain::core
