#pragma once

#include "dtrain/core/matrix.hpp"

#include <string>

namespace dtrain::core {

enum class Op { none, transpose };

/// C = alpha · op(A) · op(B) + beta · C, for Real = float or double. The shapes are those of the views: after `op`,
/// A is C.rows × k and B is k × C.cols (a mismatch is a programming error and asserted). With k or a side of C being
/// zero C becomes beta · C.
template <class Real>
void gemm(Op op_a, Op op_b, Real alpha, MatrixView<const Real> a, MatrixView<const Real> b, Real beta,
          MatrixView<Real> c);

/// Threads that BLAS may use in this process. An OpenBLAS left alone takes every core in every rank.
void set_blas_threads(int threads);

/// Version and kernel set of the BLAS in use, for the log: both decide the last bits of a result.
[[nodiscard]] std::string blas_name();

} // namespace dtrain::core
