#include "dtrain/core/bfloat16.hpp"
#include "dtrain/core/random.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/kernels/products.hpp"

#include "kernels/reference.hpp"
#include "support/products.hpp"
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

namespace dtrain::kernels {
namespace {

using core::MatrixView;

/// From -2^exponent to 2^exponent, of very different size.
std::vector<float> draw(std::size_t size, std::uint64_t index, int exponent = 0) {
    core::RandomStream random(7, core::Purpose::initialisation, 0, index);
    std::vector<float> values(size);
    for (float& value : values) {
        const int smaller = static_cast<int>(random.next() % 8);
        value = static_cast<float>(std::ldexp(2 * random.uniform() - 1, exponent - smaller));
    }
    return values;
}

/// Every bit pattern: infinities, NaN and denormal numbers too.
std::vector<float> draw_bits(std::size_t size, std::uint64_t index) {
    core::RandomStream random(8, core::Purpose::initialisation, 0, index);
    std::vector<float> values(size);
    for (float& value : values) {
        value = std::bit_cast<float>(static_cast<std::uint32_t>(random.next()));
    }
    return values;
}

bool same_bits(float a, float b) { // the sign and payload of a NaN are not defined
    return (std::isnan(a) && std::isnan(b)) || std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

void expect_same_bits(const std::vector<float>& found, const std::vector<float>& expected, const std::string& what) {
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
        ASSERT_TRUE(same_bits(found[i], expected[i]))
            << what << ": element " << i << " is " << found[i] << ", expected " << expected[i];
    }
}

class Bfloat16Kernel : public ::testing::TestWithParam<std::size_t> {
  protected:
    void SetUp() override {
        if (!is_supported(GetParam())) {
            GTEST_SKIP() << "this CPU does not support " << tables()[GetParam()].name;
        }
    }
    [[nodiscard]] const Bfloat16Kernels& tested() const { return tables()[GetParam()].bfloat16; }
};

TEST_P(Bfloat16Kernel, RoundsAsTheReference) {
    const Bfloat16Kernels& expected = tables()[0].bfloat16;
    for (const std::size_t rows : {1U, 7U, 16U, 35U}) {
        for (const std::size_t cols : {1U, 15U, 16U, 32U, 70U}) {
            const std::vector<float> values = draw_bits(rows * cols, rows);
            for (const bool transposed : {false, true}) {
                const Elements<float> elements{values.data(), transposed ? 1 : cols, transposed ? rows : 1};
                const auto compare = [&](std::size_t size, auto&& round) {
                    std::vector<std::uint16_t> found(size, 1);
                    std::vector<std::uint16_t> wanted(size, 1);
                    round(tested(), found.data());
                    round(expected, wanted.data());
                    EXPECT_EQ(found, wanted) << rows << " x " << cols << (transposed ? ", transposed" : "");
                };
                const std::size_t stride = in_whole_steps(cols) + bfloat16_depth;
                compare(rows * stride, [&](const Bfloat16Kernels& kernels, std::uint16_t* a) {
                    kernels.round_rows(elements, rows, cols, a, stride);
                });
                const std::size_t panel = in_whole_steps(rows) * bfloat16_columns;
                compare(5 * panel, [&](const Bfloat16Kernels& kernels, std::uint16_t* b) {
                    kernels.round_panels(elements, rows, cols, b, panel);
                });
            }
        }
    }
}

TEST_P(Bfloat16Kernel, RoundsAndCopiesBlocksAsTheReference) {
    for (const std::size_t channels : {1U, 5U, 16U, 35U}) {
        const Maps maps{channels, 3, 5};
        const std::vector<float> block = draw_bits(maps.size() * block_lanes<float>, channels);
        std::vector<std::uint16_t> found(2 * (channels + 15) / 16 * 16 * maps.pixels() * group_rows, 1);
        std::vector<std::uint16_t> expected = found;
        tested().round_samples(block.data(), maps, found.data());
        tables()[0].bfloat16.round_samples(block.data(), maps, expected.data());
        EXPECT_EQ(found, expected) << channels << " channels";

        const std::array<std::uint32_t, 3> offsets{64, 0, 7};
        std::array<std::uint16_t, 96> rows{};
        tested().copy_rows(found.data(), offsets.data(), offsets.size(), rows.data());
        for (std::size_t i = 0; i < rows.size(); ++i) {
            ASSERT_EQ(rows[i], found[offsets[i / 32] + i % 32]);
        }
    }
}

TEST_P(Bfloat16Kernel, MultipliesAsTheReference) {
    struct Size {
        std::size_t rows, cols, depth;
    };
    for (const Size size : {Size{1, 1, 1},
                            {3, 20, 0},
                            {5, 16, 32},
                            {6, 33, 31},
                            {13, 40, 100},
                            {14, 15, 65},
                            {29, 64, 70},
                            {33, 17, 200}}) {
        const std::size_t stride = in_whole_steps(size.depth);
        const std::size_t panel = stride * bfloat16_columns;
        for (const int kind : {0, 1, 2, 3}) { // small sums are near the smallest normal number; every bit pattern
            const auto values = [&](std::size_t count, std::uint64_t index) {
                constexpr std::array exponents{0, -60, -64};
                return kind == 3 ? draw_bits(count, index)
                                 : draw(count, index, exponents[static_cast<std::size_t>(kind)]);
            };
            const std::vector<float> a_values = values(size.rows * size.depth, 1);
            const std::vector<float> b_values = values(size.depth * size.cols, 2);
            std::vector<std::uint16_t> a(size.rows * stride);
            std::vector<std::uint16_t> b((size.cols + 15) / 16 * panel);
            tested().round_rows({a_values.data(), size.depth, 1}, size.rows, size.depth, a.data(), stride);
            tested().round_panels({b_values.data(), size.cols, 1}, size.depth, size.cols, b.data(), panel);
            const std::size_t c_stride = size.cols + 3;
            const auto sums = [&](std::size_t count, std::uint64_t index) {
                return kind == 3 ? draw_bits(count, index) : draw(count, index, -120);
            };
            const std::vector<float> before = sums(size.rows * c_stride, 3);
            const std::vector<float> lefts = sums(2 * size.rows * (size.cols + 1), 4);
            for (const int start : {0, 1, 2}) { // at 0, at c, at another matrix
                for (const std::size_t merges : {0U, 1U, 3U}) {
                    std::vector<float> found = before;
                    std::vector<float> expected = before;
                    const auto job = [&](std::vector<float>& c) {
                        return Bfloat16Product{.a = a.data(),
                                               .a_stride = stride,
                                               .rows = size.rows,
                                               .b = b.data(),
                                               .panel_stride = panel,
                                               .cols = size.cols,
                                               .depth = size.depth,
                                               .start = start == 0   ? nullptr
                                                        : start == 1 ? c.data()
                                                                     : before.data(),
                                               .start_stride = c_stride,
                                               .c = c.data(),
                                               .c_stride = c_stride,
                                               .merges = merges,
                                               .lefts = lefts.data(),
                                               .left_size = size.rows * (size.cols + 1),
                                               .left_stride = size.cols + 1};
                    };
                    tested().multiply(job(found));
                    reference::multiply_bfloat16(job(expected), tested().order);
                    expect_same_bits(found, expected,
                                     "kind " + std::to_string(kind) + ", depth " + std::to_string(size.depth) +
                                         ", start " + std::to_string(start) + ", merges " + std::to_string(merges));
                }
            }
        }
    }
}

std::string name_of(const ::testing::TestParamInfo<std::size_t>& index) {
    std::string name = tables()[index.param].name;
    std::ranges::replace_if(
        name, [](char c) { return c == '-' || c == '+'; }, '_');
    return name;
}
INSTANTIATE_TEST_SUITE_P(All, Bfloat16Kernel, ::testing::Range(std::size_t{0}, tables().size()), name_of);

// --- whole products ---

struct Matrix {
    std::size_t rows, cols;
    bool transposed;
    std::vector<float> values;

    [[nodiscard]] Factor<float> factor() const {
        const Factor<float> stored(
            MatrixView<const float>{values.data(), transposed ? cols : rows, transposed ? rows : cols});
        return transposed ? stored.transposed() : stored;
    }
    [[nodiscard]] double at(std::size_t i, std::size_t j) const {
        return static_cast<double>(
            core::from_bfloat16(core::to_bfloat16(transposed ? values[j * rows + i] : values[i * cols + j])));
    }
};

/// The products of rounded factors in double differ by the rounding of float sums only.
TEST(Bfloat16Products, AreProductsOfRoundedFactors) {
    for (const std::array<std::size_t, 3> size :
         {std::array<std::size_t, 3>{1, 1, 1}, {70, 100, 50}, {10, 65, 5000}, {700, 3, 4100}}) {
        for (const bool transposed : {false, true}) {
            const Matrix a{size[0], size[2], transposed, draw(size[0] * size[2], 1)};
            const Matrix b{size[2], size[1], transposed, draw(size[2] * size[1], 2)};
            for (const bool add : {false, true}) {
                std::vector<float> c(size[0] * size[1], 1.0F);
                const MatrixView<float> view{c.data(), size[0], size[1]};
                Products& products = support::bfloat16_products();
                add ? products.multiply_add(a.factor(), b.factor(), view)
                    : products.multiply(a.factor(), b.factor(), view);
                for (std::size_t i = 0; i < size[0]; ++i) {
                    for (std::size_t j = 0; j < size[1]; ++j) {
                        double expected = add ? 1 : 0;
                        for (std::size_t k = 0; k < size[2]; ++k) {
                            expected += a.at(i, k) * b.at(k, j);
                        }
                        ASSERT_NEAR(static_cast<double>(c[i * size[1] + j]), expected, 1e-4);
                    }
                }
            }
        }
    }
}

TEST(Bfloat16Products, AKeptFactorChangesNoBit) {
    for (const std::array<std::size_t, 3> size : {std::array<std::size_t, 3>{3, 1, 1}, {70, 100, 50}, {10, 65, 5000}}) {
        for (const bool transposed : {false, true}) {
            const Matrix a{size[0], size[2], false, draw(size[0] * size[2], 1)};
            const Matrix b{size[2], size[1], transposed, draw(size[2] * size[1], 2)};
            Products& products = support::bfloat16_products();
            std::vector<std::uint16_t> memory(products.kept_size(size[2], size[1]));
            const Factor<float> kept = products.keep(b.factor(), memory.data());
            for (const bool add : {false, true}) {
                const auto product = [&](const Factor<float>& factor) {
                    std::vector<float> c(size[0] * size[1], 1.0F);
                    const MatrixView<float> view{c.data(), size[0], size[1]};
                    add ? products.multiply_add(a.factor(), factor, view) : products.multiply(a.factor(), factor, view);
                    return c;
                };
                const std::vector<float> expected = product(b.factor());
                expect_same_bits(product(kept), expected, "kept, depth " + std::to_string(size[2]));
            }
            // The values are read from the memory.
            std::ranges::fill(memory, std::uint16_t{0});
            std::vector<float> c(size[0] * size[1], 1.0F);
            products.multiply(a.factor(), kept, {c.data(), size[0], size[1]});
            EXPECT_TRUE(std::ranges::all_of(c, [](float value) { return value == 0; }));
        }
    }
}

/// A product along a tree is the sum of the products of its leaves, also of one leaf in several parts, of leaves
/// without rows, and of more inner indices than the copies of the factors hold. Sums of leaves may be denormal.
TEST(Bfloat16Products, AlongATreeAreSumsOfLeaves) {
    for (const std::vector<std::size_t>& offsets : {std::vector<std::size_t>{0, 9},
                                                    {3, 40, 77},
                                                    {0, 33, 33, 64, 80, 81},
                                                    {0, 0, 20, 52, 60, 92, 92, 124, 124},
                                                    {0, 40, 41, 80, 100, 140, 180, 220, 4400},
                                                    {0, 100, 5000, 9100},
                                                    {0, 20000, 40000, 70000}}) {
        const std::size_t depth = offsets.back();
        const int exponent = depth < 1000 ? -62 : 0;
        const Matrix a{67, depth, true, draw(67 * depth, 1, exponent)};
        const Matrix b{depth, 70, false, draw(depth * 70, 2, exponent)};
        const auto leaves = static_cast<std::int64_t>(offsets.size() - 1);
        const std::vector<std::uint8_t> merges = core::merges_after_leaves({0, leaves});
        std::vector<float> found(67 * 70);
        Products& products = support::bfloat16_products();
        products.multiply_along_tree(a.factor(), b.factor(), {offsets, merges}, {found.data(), 67, 70});

        std::vector<std::vector<float>> sums;
        for (std::size_t l = 0; l + 1 < offsets.size(); ++l) {
            sums.emplace_back(67 * 70);
            const MatrixView<float> leaf{sums.back().data(), 67, 70};
            for (std::size_t k = offsets[l]; k < offsets[l + 1]; k += 2 * products.cut_unit()) {
                const std::size_t part = std::min(2 * products.cut_unit(), offsets[l + 1] - k);
                products.multiply_add(a.factor().block(0, 67, k, part), b.factor().block(k, part, 0, 70), leaf);
            }
            for (std::uint8_t merge = 0; merge < merges[l]; ++merge) {
                const std::vector<float> right = std::move(sums.back());
                sums.pop_back();
                for (std::size_t i = 0; i < right.size(); ++i) {
                    sums.back()[i] += right[i];
                }
            }
        }
        ASSERT_EQ(sums.size(), 1U);
        expect_same_bits(found, sums[0], "tree up to " + std::to_string(depth));
    }
}

TEST(Bfloat16Products, OfOnesAreExactSums) {
    const std::vector<float> values = draw(50 * 3, 1);
    const Factor<float> rows(MatrixView<const float>{values.data(), 50, 3});
    const std::array<std::size_t, 3> offsets{0, 20, 50};
    const std::vector<std::uint8_t> merges = core::merges_after_leaves({0, 2});
    std::vector<float> found(3);
    std::vector<float> expected(3);
    for (const auto& [products, sum] :
         {std::pair{&support::bfloat16_products(), &found}, {&support::products(), &expected}}) {
        products->multiply_along_tree(Factor<float>::ones(1, 50), rows, {offsets, merges}, {sum->data(), 1, 3});
    }
    EXPECT_EQ(found, expected);
}

TEST(Bfloat16Products, ThreadsChangeNoBit) {
    const Matrix a{50, 300, false, draw(50 * 300, 1)};
    const Matrix b{300, 1000, true, draw(300 * 1000, 2)};
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 3}) {
        results.emplace_back(50 * 1000);
        make_bfloat16_products(threads)->multiply(a.factor(), b.factor(), {results.back().data(), 50, 1000});
    }
    expect_same_bits(results[1], results[0], "3 threads");
}

} // namespace
} // namespace dtrain::kernels
