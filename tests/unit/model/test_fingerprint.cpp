#include "dtrain/model/fingerprint.hpp"
#include "dtrain/nn/network.hpp"

#include "support/products.hpp"
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace dtrain::model {
namespace {

TEST(Fingerprint, DependsOnEveryBitOfEveryWeightAndNothingElse) {
    const nn::Network<float> network("dense 3 relu, dense 2", {5}, support::products());
    const auto& layout = network.layout();
    std::vector<float> parameters(layout.arena_size());
    network.initialise(parameters, 1);
    const auto before = fingerprint(layout, parameters);
    std::vector<bool> is_weight(parameters.size());
    for (const nn::Tensor& tensor : layout.tensors()) {
        std::fill_n(is_weight.begin() + static_cast<std::ptrdiff_t>(tensor.offset), tensor.size, true);
    }
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        const float value = parameters[i];
        parameters[i] = std::nextafter(value, std::numeric_limits<float>::infinity());
        EXPECT_EQ(fingerprint(layout, parameters) != before, is_weight[i]) << i;
        parameters[i] = value;
    }
    EXPECT_EQ(fingerprint(layout, parameters), before);
}

} // namespace
} // namespace dtrain::model
