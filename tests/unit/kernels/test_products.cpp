#include "dtrain/core/random.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/kernels/products.hpp"

#include <cblas.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dtrain::kernels {
namespace {

using core::MatrixView;
using core::max_tree_depth;
using core::Purpose;
using core::RandomStream;
using core::Range;
using core::split_node;

template <class Real>
class ExactProducts : public ::testing::Test {
  protected:
    /// From -1 to 1, with as many random bits as a Real holds. A product of two is then not exact, so a chain of fused
    /// multiply-adds differs from a chain that rounds products.
    static std::vector<Real> draw(std::size_t size, std::uint64_t index) {
        RandomStream random(11, Purpose::initialisation, 0, index);
        std::vector<Real> values(size);
        for (Real& value : values) {
            const auto bits = static_cast<std::int64_t>(std::uint64_t{random.next()} << 32 | random.next());
            value = static_cast<Real>(static_cast<double>(bits) * 0x1p-63);
        }
        return values;
    }

    /// Rows × cols values, stored directly or transposed.
    struct Matrix {
        std::size_t rows, cols;
        bool transposed;
        std::vector<Real> values;
        Matrix(std::size_t r, std::size_t c, bool t, std::uint64_t index)
            : rows(r), cols(c), transposed(t), values(draw(r * c, index)) {}
        [[nodiscard]] Factor<Real> factor() const {
            const Factor<Real> stored(
                MatrixView<const Real>{values.data(), transposed ? cols : rows, transposed ? rows : cols});
            return transposed ? stored.transposed() : stored;
        }
        [[nodiscard]] Real at(std::size_t i, std::size_t j) const {
            return transposed ? values[j * rows + i] : values[i * cols + j];
        }
    };

    /// The chain that the header promises, which rounds once per multiply-add.
    static Real chain(Real start, const Matrix& a, const Matrix& b, std::size_t i, std::size_t j, std::size_t from,
                      std::size_t to) {
        for (std::size_t k = from; k < to; ++k) {
            start = std::fma(a.at(i, k), b.at(k, j), start);
        }
        return start;
    }
    static Real tree(const Matrix& a, const Matrix& b, std::size_t i, std::size_t j,
                     const std::vector<std::size_t>& offsets, Range node) {
        if (node.size() == 1) {
            const auto leaf = static_cast<std::size_t>(node.begin);
            return chain(0, a, b, i, j, offsets[leaf], offsets[leaf + 1]);
        }
        const std::int64_t middle = split_node(node);
        return tree(a, b, i, j, offsets, {node.begin, middle}) + tree(a, b, i, j, offsets, {middle, node.end});
    }

    struct Shape {
        std::size_t m, n, k;
    };
    /// Complete tiles and panels, tiles and panels cut at every edge, and more than one block deep.
    static std::vector<Shape> shapes() {
        return {{1, 1, 1},     {5, 7, 3},     {14, 32, 16},   {15, 33, 17},   {28, 64, 40},
                {16, 784, 20}, {130, 16, 9},  {10, 100, 31},  {9, 48, 1100},  {300, 40, 5},
                {3, 10, 513},  {2, 31, 2500}, {30, 300, 512}, {20, 520, 1024}};
    }

    const std::unique_ptr<Products> products = make_exact_products(1);
};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ExactProducts, Reals);

TYPED_TEST(ExactProducts, AreChainsBitForBit) {
    const std::unique_ptr<Products> three_threads = make_exact_products(3);
    for (const auto& [m, n, k] : this->shapes()) {
        for (const int transposed : {0, 1, 2, 3}) {
            const typename TestFixture::Matrix a(m, k, (transposed & 1) != 0, 1);
            const typename TestFixture::Matrix b(k, n, (transposed & 2) != 0, 2);
            const std::vector<TypeParam> before = this->draw(m * n, 3);
            for (const bool add : {false, true}) {
                for (Products* const by : {this->products.get(), three_threads.get()}) {
                    std::vector<TypeParam> c = before;
                    const MatrixView<TypeParam> view{c.data(), m, n};
                    add ? by->multiply_add(a.factor(), b.factor(), view) : by->multiply(a.factor(), b.factor(), view);
                    for (std::size_t i = 0; i < m; ++i) {
                        for (std::size_t j = 0; j < n; ++j) {
                            const TypeParam start = add ? before[i * n + j] : TypeParam{0};
                            ASSERT_EQ(c[i * n + j], this->chain(start, a, b, i, j, 0, k))
                                << m << " x " << n << " x " << k << " at " << i << ", " << j;
                        }
                    }
                }
            }
        }
    }
}

TYPED_TEST(ExactProducts, AddUpLeavesAlongTheTree) {
    for (const auto& [m, n, k] : this->shapes()) {
        for (const std::size_t leaves : {1U, 2U, 3U, 5U, 8U, 13U}) {
            std::vector<std::size_t> offsets{0}; // some leaves are empty, one is large
            for (std::size_t leaf = 1; leaf < leaves; ++leaf) {
                offsets.push_back(k * (leaf - 1) / leaves);
            }
            offsets.push_back(k);
            const Range node{0, static_cast<std::int64_t>(leaves)};
            const std::vector<std::uint8_t> merges = merges_after_leaves(node);
            const typename TestFixture::Matrix a(m, k, true, 1); // as in a layer: outputs × rows, stored by rows
            const typename TestFixture::Matrix b(k, n, false, 2);
            std::vector<TypeParam> c(m * n, std::numeric_limits<TypeParam>::quiet_NaN());
            this->products->multiply_along_tree(a.factor(), b.factor(), {offsets, merges}, {c.data(), m, n});
            for (std::size_t i = 0; i < m; ++i) {
                for (std::size_t j = 0; j < n; ++j) {
                    ASSERT_EQ(c[i * n + j], this->tree(a, b, i, j, offsets, node))
                        << m << " x " << n << " x " << k << ", " << leaves << " leaves, at " << i << ", " << j;
                }
            }
        }
    }
}

TYPED_TEST(ExactProducts, WithoutInnerElementsAreZero) {
    const TypeParam nothing = 0;
    std::vector<TypeParam> c(6, std::numeric_limits<TypeParam>::quiet_NaN());
    this->products->multiply(Factor<TypeParam>(MatrixView<const TypeParam>{&nothing, 0, 2}).transposed(),
                             Factor<TypeParam>(MatrixView<const TypeParam>{&nothing, 0, 3}), {c.data(), 2, 3});
    for (const TypeParam value : c) {
        EXPECT_EQ(value, TypeParam{0});
    }
}

TYPED_TEST(ExactProducts, WithoutRowsWriteNothing) {
    const auto b = this->draw(6, 1);
    TypeParam untouched = 3;
    this->products->multiply_add(Factor<TypeParam>(MatrixView<const TypeParam>{&untouched, 0, 3}),
                                 Factor<TypeParam>(MatrixView<const TypeParam>{b.data(), 2, 3}).transposed(),
                                 {&untouched, 0, 2});
    EXPECT_EQ(untouched, TypeParam{3});
}

TEST(FloatProducts, AreDescribedByTableAndFusing) {
    EXPECT_EQ(make_exact_products(1)->arithmetic_name(), std::string(table().name) + ", fused multiply-add");
}

TEST(FloatProducts, AgreeWithBlas) {
    constexpr std::size_t m = 100;
    constexpr std::size_t n = 90;
    constexpr std::size_t k = 700;
    RandomStream random(1, Purpose::initialisation, 0, 0);
    std::vector<float> a(m * k), b(k * n), c(m * n), expected(m * n);
    for (std::vector<float>* values : {&a, &b}) {
        for (float& value : *values) {
            value = static_cast<float>(2 * random.uniform() - 1);
        }
    }
    make_exact_products(1)->multiply(Factor<float>(MatrixView<const float>{a.data(), m, k}),
                                     Factor<float>(MatrixView<const float>{b.data(), k, n}), {c.data(), m, n});
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a.data(), k, b.data(), n, 0, expected.data(), n);
    for (std::size_t i = 0; i < c.size(); ++i) {
        ASSERT_NEAR(c[i], expected[i], 1e-4);
    }
}

} // namespace
} // namespace dtrain::kernels
