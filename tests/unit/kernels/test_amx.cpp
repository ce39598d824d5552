// The kernel of AMX on a model of the tiles, which any CPU can execute. What the model does not show is whether the
// instructions do the same; on a CPU that has them, test_bfloat16_products.cpp does.

#define DTRAIN_INSTRUCTION_SET modelled
#include "dtrain/core/random.hpp"

#include "kernels/reference.hpp"
#include "kernels/simd/amx.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace dtrain::kernels::modelled {
namespace {

struct Memory {
    const std::byte* begin = nullptr;
    const std::byte* end = nullptr;

    template <class T>
    explicit Memory(const std::vector<T>& values)
        : begin(reinterpret_cast<const std::byte*>(values.data())),
          end(reinterpret_cast<const std::byte*>(values.data() + values.size())) {}
    [[nodiscard]] bool contains(const std::byte* from, std::size_t bytes) const {
        return from >= begin && from <= end && bytes <= static_cast<std::size_t>(end - from);
    }
};

/// Tiles as the manual of the CPU defines them. What would raise an exception of the CPU is a failure of the test.
class Tiles {
  public:
    /// Tiles are loaded from `operands` only. They are stored in `result` only, or, if `merges` is true, elsewhere.
    static void start(std::vector<Memory> operands, Memory result, bool merges) {
        operands_ = std::move(operands);
        result_ = {result};
        merges_ = merges;
        configurations_ = 0;
    }
    [[nodiscard]] static bool is_released() { return !is_configured_; }
    [[nodiscard]] static int configurations() { return configurations_; }

    static void configure(const TileConfiguration& configuration) {
        EXPECT_EQ(configuration.palette, 1);
        EXPECT_EQ(configuration.start_row, 0);
        EXPECT_TRUE(std::ranges::all_of(configuration.reserved, [](int byte) { return byte == 0; }));
        for (std::size_t t = 0; t < 16; ++t) {
            const std::size_t rows = configuration.rows[t];
            const std::size_t bytes = configuration.row_bytes[t];
            EXPECT_LE(rows, t < 8 ? 16U : 0U);
            EXPECT_LE(bytes, 64U);
            EXPECT_EQ(rows == 0, bytes == 0);
        }
        configuration_ = configuration;
        is_configured_ = true;
        tiles_ = {};
        ++configurations_;
    }
    static void release() { is_configured_ = false; }

    template <int tile>
    static void zero() {
        require_use(tile);
        tiles_[tile] = {};
    }
    template <int tile>
    static void load(const void* from, std::size_t stride) {
        require_use(tile);
        tiles_[tile] = {};
        for (std::size_t r = 0; r < configuration_.rows[tile]; ++r) {
            const auto* const row = static_cast<const std::byte*>(from) + r * stride;
            const std::size_t bytes = configuration_.row_bytes[tile];
            ASSERT_TRUE(std::ranges::any_of(operands_, [&](const Memory& m) { return m.contains(row, bytes); }));
            std::memcpy(tiles_[tile].data() + r * 64, row, bytes);
        }
    }
    template <int tile>
    static void store(void* to, std::size_t stride) {
        require_use(tile);
        for (std::size_t r = 0; r < configuration_.rows[tile]; ++r) {
            auto* const row = static_cast<std::byte*>(to) + r * stride;
            const std::size_t bytes = configuration_.row_bytes[tile];
            ASSERT_NE(result_[0].contains(row, bytes), merges_);
            std::memcpy(row, tiles_[tile].data() + r * 64, bytes);
        }
    }
    template <int c, int a, int b>
    static void multiply_add() {
        static_assert(c != a && c != b && a != b);
        require_use(c);
        require_use(a);
        require_use(b);
        EXPECT_EQ(configuration_.rows[c], configuration_.rows[a]);
        EXPECT_EQ(configuration_.row_bytes[c], configuration_.row_bytes[b]);
        EXPECT_EQ(configuration_.row_bytes[a], 4 * configuration_.rows[b]);
        std::array<std::uint16_t, 512> left;
        std::array<std::uint16_t, 512> right;
        std::array<float, 256> sums;
        std::memcpy(left.data(), tiles_[a].data(), 1024);
        std::memcpy(right.data(), tiles_[b].data(), 1024);
        std::memcpy(sums.data(), tiles_[c].data(), 1024);
        const std::size_t cols = configuration_.row_bytes[c] / sizeof(float);
        reference::multiply_bfloat16(
            {left.data(), 32, configuration_.rows[c], right.data(), 512, cols, 1, sums.data(), 16, sums.data(), 16},
            Bfloat16Order::two_chains);
        std::memcpy(tiles_[c].data(), sums.data(), 1024);
    }

  private:
    static void require_use(std::size_t tile) { EXPECT_TRUE(is_configured_ && configuration_.rows[tile] > 0) << tile; }

    static inline TileConfiguration configuration_;
    static inline bool is_configured_ = false;
    static inline int configurations_ = 0;
    static inline std::array<std::array<std::byte, 1024>, 8> tiles_;
    static inline std::vector<Memory> operands_;
    static inline std::vector<Memory> result_;
    static inline bool merges_ = false;
};

struct Shape {
    std::size_t rows, cols, steps;
};

void expect_same_product(const Shape& shape, core::RandomStream& random) {
    const auto up_to = [&](std::size_t limit) { return static_cast<std::size_t>(random.next()) % (limit + 1); };
    const std::size_t depth = shape.steps * bfloat16_depth - up_to(bfloat16_depth - 1); // not zeros follow it
    const std::size_t a_stride = shape.steps * bfloat16_depth + up_to(2);
    const std::size_t panel_stride = shape.steps * bfloat16_depth * bfloat16_columns + up_to(2);
    const std::size_t panels = (shape.cols + bfloat16_columns - 1) / bfloat16_columns;
    const std::size_t c_stride = shape.cols + up_to(20);
    // Without the padding of the last row or panel.
    std::vector<std::uint16_t> a((shape.rows - 1) * a_stride + shape.steps * bfloat16_depth);
    std::vector<std::uint16_t> b((panels - 1) * panel_stride + shape.steps * bfloat16_depth * bfloat16_columns);
    std::vector<float> c((shape.rows - 1) * c_stride + shape.cols);
    const std::size_t left_stride = shape.cols + up_to(2);
    std::vector<float> lefts(2 * shape.rows * left_stride);
    const bool any_bits = up_to(3) == 0;
    const int exponent = up_to(1) == 0 ? 0 : -60; // small sums are near the smallest normal number
    const auto draw = [&](int scale) {
        const int size = scale - static_cast<int>(up_to(7));
        return any_bits ? static_cast<std::uint32_t>(random.next())
                        : std::bit_cast<std::uint32_t>(static_cast<float>(std::ldexp(2 * random.uniform() - 1, size)));
    };
    for (std::vector<std::uint16_t>* const factor : {&a, &b}) {
        std::ranges::generate(*factor, [&] { return static_cast<std::uint16_t>(draw(exponent) >> 16); });
    }
    for (std::vector<float>* const sums : {&c, &lefts}) {
        std::ranges::generate(*sums, [&] { return std::bit_cast<float>(draw(2 * exponent)); });
    }
    const std::vector<float> other = c;
    std::vector<float> expected = c;

    const std::size_t merges = up_to(3);
    const std::size_t start = up_to(2); // at 0, at c, at another matrix
    const auto job = [&](std::vector<float>& to) {
        return Bfloat16Product{.a = a.data(),
                               .a_stride = a_stride,
                               .rows = shape.rows,
                               .b = b.data(),
                               .panel_stride = panel_stride,
                               .cols = shape.cols,
                               .depth = depth,
                               .start = std::array<const float*, 3>{nullptr, to.data(), other.data()}[start],
                               .start_stride = c_stride,
                               .c = to.data(),
                               .c_stride = c_stride,
                               .merges = merges,
                               .lefts = lefts.data(),
                               .left_size = shape.rows * left_stride,
                               .left_stride = left_stride};
    };
    Tiles::start({Memory(a), Memory(b), Memory(c), Memory(other)}, Memory(c), merges > 0);
    multiply_by_tiles<Tiles>(job(c));
    EXPECT_TRUE(Tiles::is_released());
    EXPECT_LE(Tiles::configurations(), 4);
    reference::multiply_bfloat16(job(expected), Bfloat16Order::two_chains);
    for (std::size_t i = 0; i < c.size(); ++i) { // c_stride - cols values between the rows, which stay, too
        if (merges > 0 && std::isnan(c[i]) && std::isnan(expected[i])) {
            continue; // compilers choose which of two NaN a sum has the bits of
        }
        ASSERT_EQ(std::bit_cast<std::uint32_t>(c[i]), std::bit_cast<std::uint32_t>(expected[i]))
            << "row " << i / c_stride << ", column " << i % c_stride;
    }
}

TEST(Amx, MultipliesAsTheReference) {
    core::RandomStream random(9, core::Purpose::initialisation, 0, 0);
    const auto some = [&](std::size_t limit) { return 1 + static_cast<std::size_t>(random.next()) % limit; };
    for (std::size_t size = 1; size <= 66; ++size) { // every edge of a block, for rows and for columns
        for (const Shape shape : {Shape{size, some(66), some(3)}, {some(66), size, some(3)}}) {
            SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols) + ", " +
                         std::to_string(shape.steps) + " steps");
            expect_same_product(shape, random);
            if (HasFailure()) {
                return;
            }
        }
    }
}

} // namespace
} // namespace dtrain::kernels::modelled
