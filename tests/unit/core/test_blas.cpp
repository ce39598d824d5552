#include "dtrain/core/blas.hpp"
#include "dtrain/core/random.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace dtrain::core {
namespace {

template <class Real>
class Gemm : public ::testing::Test {};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Gemm, Reals);

template <class Real>
std::vector<Real> draw(std::size_t size, std::uint64_t index) {
    RandomStream random(11, Purpose::initialisation, 0, index);
    std::vector<Real> values(size);
    for (Real& value : values) {
        value = static_cast<Real>(2 * random.uniform() - 1);
    }
    return values;
}

TYPED_TEST(Gemm, AgreesWithTheDefinition) {
    const std::size_t m = 5;
    const std::size_t n = 7;
    const std::size_t k = 3;
    for (const Op op_a : {Op::none, Op::transpose}) {
        for (const Op op_b : {Op::none, Op::transpose}) {
            const auto a = draw<TypeParam>(m * k, 1);
            const auto b = draw<TypeParam>(k * n, 2);
            const auto c = draw<TypeParam>(m * n, 3);
            const MatrixView<const TypeParam> a_view{a.data(), op_a == Op::none ? m : k, op_a == Op::none ? k : m};
            const MatrixView<const TypeParam> b_view{b.data(), op_b == Op::none ? k : n, op_b == Op::none ? n : k};
            std::vector<TypeParam> result = c;
            gemm<TypeParam>(op_a, op_b, TypeParam{2}, a_view, b_view, TypeParam{0.5}, {result.data(), m, n});
            for (std::size_t i = 0; i < m; ++i) {
                for (std::size_t j = 0; j < n; ++j) {
                    double sum = 0.5 * static_cast<double>(c[i * n + j]);
                    for (std::size_t l = 0; l < k; ++l) {
                        sum += 2.0 * static_cast<double>(op_a == Op::none ? a_view.row(i)[l] : a_view.row(l)[i]) *
                               static_cast<double>(op_b == Op::none ? b_view.row(l)[j] : b_view.row(j)[l]);
                    }
                    EXPECT_NEAR(static_cast<double>(result[i * n + j]), sum,
                                20 * static_cast<double>(std::numeric_limits<TypeParam>::epsilon()));
                }
            }
        }
    }
}

// A shard without samples in a step: its gradient is zero, whatever was in the arena before.
TYPED_TEST(Gemm, WithNothingInBetweenIsZero) {
    const TypeParam nothing = 0;
    std::vector<TypeParam> c(6, std::numeric_limits<TypeParam>::quiet_NaN());
    gemm<TypeParam>(Op::transpose, Op::none, 1, {&nothing, 0, 2}, {&nothing, 0, 3}, 0, {c.data(), 2, 3});
    for (const TypeParam value : c) {
        EXPECT_EQ(value, TypeParam{0});
    }
}

TYPED_TEST(Gemm, WithoutRowsTouchesNothing) {
    const auto b = draw<TypeParam>(6, 1);
    TypeParam untouched = 3;
    gemm<TypeParam>(Op::none, Op::transpose, 1, {&untouched, 0, 3}, {b.data(), 2, 3}, 1, {&untouched, 0, 2});
    EXPECT_EQ(untouched, TypeParam{3});
}

TEST(Blas, TellsItsName) {
    EXPECT_NE(blas_name().find("OpenBLAS"), std::string::npos);
}

} // namespace
} // namespace dtrain::core
