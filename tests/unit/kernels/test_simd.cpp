#define DTRAIN_INSTRUCTION_SET tested
#include "kernels/simd/simd.hpp"
#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace dtrain::kernels::tested {
namespace {

template <class Type>
class SimdOf : public ::testing::Test {};
using Types = ::testing::Types<Simd<float, 16>, Simd<float, 32>, Simd<float, 64>, Simd<double, 16>, Simd<double, 32>,
                               Simd<double, 64>>;
TYPED_TEST_SUITE(SimdOf, Types);

TYPED_TEST(SimdOf, Transposes) {
    constexpr std::size_t lanes = TypeParam::lanes;
    using Real = std::remove_cvref_t<decltype(typename TypeParam::Vector{}[0])>;
    std::vector<Real> values(lanes * lanes + 1); // read and written at unaligned addresses
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<Real>(i);
    }
    typename TypeParam::Square square;
    for (std::size_t i = 0; i < lanes; ++i) {
        square[i] = TypeParam::load(values.data() + 1 + i * lanes);
    }
    TypeParam::transpose(square);
    for (std::size_t i = 0; i < lanes; ++i) {
        TypeParam::store(values.data() + 1 + i * lanes, square[i]);
    }
    EXPECT_EQ(values[0], Real{0});
    for (std::size_t i = 0; i < lanes; ++i) {
        for (std::size_t j = 0; j < lanes; ++j) {
            EXPECT_EQ(values[1 + i * lanes + j], static_cast<Real>(1 + j * lanes + i)) << i << ", " << j;
        }
    }
}

} // namespace
} // namespace dtrain::kernels::tested
