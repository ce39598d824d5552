#include "dtrain/core/random.hpp"
#include "dtrain/nn/network.hpp"

#include "support/products.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace dtrain::nn {
namespace {

std::vector<float> draw(std::size_t size, std::uint64_t index) {
    core::RandomStream random(3, core::Purpose::initialisation, 0, index);
    std::vector<float> values(size);
    for (float& value : values) {
        value = static_cast<float>(2 * random.uniform() - 1);
    }
    return values;
}

TEST(Network, LaysOutItsTensorsByName) {
    const Network<float> network("dense 16 sigmoid, dense 3", {28, 28}, support::products());
    const auto& layout = network.layout();
    ASSERT_EQ(layout.tensors().size(), 4U);
    EXPECT_EQ(layout[0].name, "01_dense/weight");
    EXPECT_EQ(layout[0].layer, network.layers()[0]->label());
    EXPECT_EQ(layout[0].part, "weight");
    EXPECT_EQ(layout[0].shape, (Shape{16, 784}));
    EXPECT_EQ(layout[1].name, "01_dense/bias");
    EXPECT_EQ(layout[1].shape, Shape{16});
    EXPECT_EQ(layout[2].name, "02_dense/weight");
    EXPECT_EQ(layout[2].shape, (Shape{3, 16}));
    EXPECT_EQ(layout[3].name, "02_dense/bias");
    EXPECT_EQ(layout.parameter_count(), 16U * 784 + 16 + 3 * 16 + 3);
    std::size_t end = 0;
    for (const Tensor& tensor : layout.tensors()) {
        EXPECT_EQ(tensor.offset % ParameterLayout::alignment, 0U);
        EXPECT_GE(tensor.offset, end);
        EXPECT_EQ(tensor.size, element_count(tensor.shape));
        end = tensor.offset + tensor.size;
    }
    EXPECT_GE(layout.arena_size(), end);
    EXPECT_EQ(layout.arena_size() % ParameterLayout::alignment, 0U);
    EXPECT_EQ(network.inputs(), 784U);
    EXPECT_EQ(network.outputs(), 3U);
    EXPECT_EQ(network.layers()[0]->description(), "dense 16 sigmoid");
    EXPECT_EQ(network.layers()[1]->description(), "dense 3 linear");
}

TEST(Network, With16And16HiddenUnitsHas13002Parameters) {
    Network<float> network("dense 16 sigmoid, dense 16 sigmoid, dense 10 sigmoid", {28, 28}, support::products());
    EXPECT_EQ(network.layout().parameter_count(), 13'002U);
    EXPECT_EQ(network.forward_flops(), 2.0 * (784 * 16 + 16 * 16 + 16 * 10));
    EXPECT_EQ(network.training_flops(), 2.0 * (2 * 784 * 16 + 3 * (16 * 16 + 16 * 10)));
    EXPECT_EQ(network.bytes_for(Extent::of(5, 1)), 5 * 4 * (16U + 16 + 10 + 2 * 16) + 2 * sizeof(std::size_t));
}

TEST(Network, ReportsWhetherItsOutputsAreLinear) {
    const auto ends_linear = [](std::string_view list) {
        return Network<float>(list, {4, 4}, support::products()).layers().back()->ends_linear();
    };
    EXPECT_TRUE(ends_linear("dense 4"));
    EXPECT_TRUE(ends_linear("conv 2x3x3 linear"));
    for (const std::string_view list : {"dense 4 relu", "conv 2x3x3 tanh", "maxpool 2", "lstm 3", "dropout 0.5"}) {
        EXPECT_FALSE(ends_linear(list)) << list;
    }
}

TEST(Network, RefusesWrongListsAndNamesTheLayer) {
    const auto message = [](std::string_view list, const Shape& input = {4}) -> std::string {
        try {
            const Network<float> network(list, input, support::products());
        } catch (const std::invalid_argument& error) {
            return error.what();
        }
        return "accepted";
    };
    const auto expect_message = [&](std::string_view list, std::string_view part) {
        EXPECT_NE(message(list).find(part), std::string::npos) << list << ": " << message(list);
    };
    expect_message("", "empty entry");
    expect_message("dense 4,,dense 2", "empty entry");
    expect_message("dense 4,", "empty entry");
    expect_message("dense 4, dens 2", "dens 2");
    expect_message("dense 4, dens 2", "expected one of dense");
    expect_message("dense 4, batch_norm, dense 2", "; did you mean batchnorm?");
    expect_message("dense", "dense N");
    expect_message("dense 4 relu extra", "dense 4 relu extra");
    expect_message("dense 0", "from 1 to");
    expect_message("dense -4", "from 1 to");
    expect_message("dense 4x", "from 1 to");
    expect_message("dense 99999999999999999999999", "from 1 to");
    expect_message("dense 4 reluu", "unknown activation reluu; expected one of ");
    expect_message("dense 4 reluu", "; did you mean relu?");
    EXPECT_EQ(message("  dense   4   relu ,dense 2"), "accepted");

    struct Refused {
        std::string_view list;
        Shape input;
        std::string_view part;
    };
    const Shape image{28, 28};
    for (const auto& [list, input, part] :
         {Refused{"conv", image, "expected `conv CxKxK"},
          {"conv 6", image, "expected `conv CxKxK"},
          {"conv 6x5", image, "expected `conv CxKxK"},
          {"conv 6x5x3", image, "expected `conv CxKxK"},
          {"conv 6x5x5x5", image, "expected `conv CxKxK"},
          {"conv 6x5x5x", image, "expected `conv CxKxK"},
          {"conv 6x5x5 pad", image, "expected `conv CxKxK"},
          {"conv 6x5x5 stride 2 pad 1", image, "expected `conv CxKxK"},
          {"conv 6x5x5 relu pad 1", image, "expected `conv CxKxK"},
          {"conv 0x5x5", image, "the number of output channels must be a whole number from 1 to"},
          {"conv 6x0x0", image, "the kernel size must be a whole number from 1 to"},
          {"conv 6x5x5 pad 5", image, "must be a whole number from 0 to 4"},
          {"conv 6x5x5 stride 0", image, "the stride must be a whole number from 1 to"},
          {"conv 6x5x5 reluu", image, "unknown activation reluu"},
          {"conv 6x5x5", {784}, "the input must be images"},
          {"conv 6x5x5", {4, 28}, "a kernel of 5 x 5 is larger than the feature maps of 4 x 28 with pad 0"},
          {"conv 65536x255x255 pad 200", {4, 300, 300}, "too large: "},
          {"maxpool", image, "expected `maxpool K`"},
          {"avgpool 2 2", image, "expected `avgpool K`"},
          {"maxpool 29", image, "the window size for feature maps of 28 x 28 must be a whole number from 1 to 28"},
          {"maxpool 2", {784}, "the input must be images"},
          {"lstm", image, "expected `lstm N`"},
          {"lstm 0", image, "the number of hidden units must be a whole number from 1 to"},
          {"lstm 8", {3, 28, 28}, "the input must be time steps x features"},
          {"lstm 8", {1U << 20, 1U << 20}, "too large: "},
          {"batchnorm relu 2", image, "expected `batchnorm [activation]`"},
          {"batchnorm", image, "the input must be a vector or feature maps"},
          {"dropout", image, "expected `dropout P`"},
          {"dropout 1", image, "expected `dropout P`"},
          {"dropout -0.1", image, "expected `dropout P`"},
          {"dropout half", image, "expected `dropout P`"},
          {"dense 1048576", {1U << 20}, "too large: "}}) {
        EXPECT_NE(message(list, input).find(part), std::string::npos) << list << ": " << message(list, input);
        EXPECT_NE(message(list, input).find(list), std::string::npos) << list << ": " << message(list, input);
    }
}

// Offsets have 32 bits: of the pixels of the input, of a window of the input, and of one of the output.
TEST(Network, RefusesFeatureMapsWhoseOffsetsInBfloat16Overflow) {
    const auto accepts = [](std::string_view list, const Shape& input, kernels::Products& products) {
        try {
            const Network<float> network(list, input, products);
            return true;
        } catch (const std::invalid_argument& error) {
            EXPECT_NE(std::string_view(error.what()).find("too large for precision = bfloat16"), std::string::npos)
                << error.what();
            return false;
        }
    };
    for (const auto& [list, fits, exceeds] :
         {std::tuple{"conv 1x3x3 stride 4", Shape{4, 5600, 5900}, Shape{4, 5600, 6000}},
          {"conv 1x255x255 stride 255", Shape{256, 255, 4000}, Shape{256, 255, 4200}},
          {"conv 60000x9x9 pad 8", Shape{4, 1, 400}, Shape{4, 1, 600}}}) {
        EXPECT_TRUE(accepts(list, fits, support::bfloat16_products())) << list;
        EXPECT_FALSE(accepts(list, exceeds, support::bfloat16_products())) << list;
        EXPECT_TRUE(accepts(list, exceeds, support::products())) << list;
    }
}

TEST(Network, ActivationsOfALayerAreTheOutputsOfANetworkThatEndsThere) {
    const std::vector<std::string> layers{"conv 3x3x3 relu", "maxpool 2", "dropout 0.5", "dense 7 tanh", "dense 4"};
    const std::vector<std::size_t> shards{0, 9, 21}; // incomplete groups, and blocks with rows of two shards
    const Shape image{8, 8};
    const std::vector<float> x = draw(21 * 64, 1);
    const auto run = [&](Network<float>& network) {
        core::Buffer<float> parameters(network.layout().arena_size());
        network.initialise(parameters.values(), 5);
        network.reserve(Extent::of(21, 2));
        const auto y = network.forward(parameters.values(), {shards}, {x.data(), 21, 64});
        return std::vector<float>(y.data, y.data + y.size());
    };
    std::string list;
    for (const std::string& layer : layers) {
        list += (list.empty() ? "" : ", ") + layer;
    }
    Network<float> whole(list, image, support::products());
    (void)run(whole);
    std::string first;
    for (std::size_t l = 0; l < layers.size(); ++l) {
        first += (first.empty() ? "" : ", ") + layers[l];
        Network<float> shorter(first, image, support::products());
        const std::vector<float> expected = run(shorter);
        std::vector<float> activations(expected.size());
        whole.copy_activations(l, shards, {activations.data(), 21, activations.size() / 21});
        EXPECT_EQ(activations, expected) << layers[l];
    }
}

TEST(Network, DropoutDropsByEpochSampleAndLayerAndOnlyInTraining) {
    constexpr std::size_t samples = 40;
    constexpr std::size_t size = 250;
    constexpr float probability = 0.3F;
    const std::vector<float> x(samples * size, 1.0F);
    const std::vector<std::size_t> shard{0, samples};
    std::vector<std::uint32_t> numbers(samples);
    std::iota(numbers.begin(), numbers.end(), 0U);
    const auto outputs = [&](std::string_view layers, const Draw* draw) {
        Network<float> network(layers, {size}, support::products());
        network.reserve(Extent::of(samples, 1));
        const auto y = network.forward({}, {shard, draw}, {x.data(), samples, size});
        return std::vector<float>(y.values().begin(), y.values().end());
    };
    const Draw first{1, 0, 100, numbers};
    const std::vector<float> dropped = outputs("dropout 0.3", &first);
    const auto zeros = static_cast<double>(std::ranges::count(dropped, 0.0F));
    EXPECT_NEAR(zeros / (samples * size), probability, 0.02); // more than four standard deviations
    for (const float value : dropped) {
        EXPECT_TRUE(value == 0.0F || value == 1.0F / (1.0F - probability)) << value;
    }
    EXPECT_EQ(outputs("dropout 0.3", nullptr), x) << "in evaluation";
    EXPECT_EQ(outputs("dropout 0.3", &first), dropped);
    EXPECT_EQ(outputs("dropout 0", &first), x);
    EXPECT_NE(outputs("dropout 0, dropout 0.3", &first), dropped) << "in another layer";
    const Draw next_epoch{1, 1, 100, numbers};
    EXPECT_NE(outputs("dropout 0.3", &next_epoch), dropped);
    const Draw other_seed{2, 0, 100, numbers};
    EXPECT_NE(outputs("dropout 0.3", &other_seed), dropped);
    // With another first sample, sample 101 is a rank's first sample. Its row is the same.
    const Draw shifted{1, 0, 101, numbers};
    const std::vector<float> moved = outputs("dropout 0.3", &shifted);
    EXPECT_TRUE(std::equal(moved.begin(), moved.begin() + size, dropped.begin() + size));
    EXPECT_FALSE(std::equal(moved.begin(), moved.begin() + size, dropped.begin()));
}

TEST(Network, PoolsKeepANaNInEveryPlace) {
    for (const std::string_view layers : {"maxpool 3", "avgpool 3"}) {
        for (std::size_t place = 0; place < 9; ++place) {
            Network<float> network(layers, {3, 3}, support::products());
            network.reserve(Extent::of(1, 1));
            std::vector<float> x(9, 1.0F);
            x[place] = std::numeric_limits<float>::quiet_NaN();
            const auto y = network.forward({}, {std::array<std::size_t, 2>{0, 1}}, {x.data(), 1, 9});
            EXPECT_TRUE(std::isnan(y.row(0)[0])) << layers << ", place " << place;
        }
    }
}

TEST(Network, InitialValuesAreAFunctionOfTheSeed) {
    const Network<float> network("dense 40 relu, dense 40 sigmoid", {50}, support::products());
    const auto initial = [&](std::uint64_t seed) {
        std::vector<float> parameters(network.layout().arena_size());
        network.initialise(parameters, seed);
        return parameters;
    };
    EXPECT_EQ(initial(1), initial(1));
    EXPECT_NE(initial(1), initial(2));

    const std::vector<float> parameters = initial(1);
    const auto tensor = [&](std::size_t number) {
        return network.layout()[number].in(std::span<const float>(parameters));
    };
    const auto mean_square = [](std::span<const float> values) {
        return std::inner_product(values.begin(), values.end(), values.begin(), 0.0) /
               static_cast<double>(values.size());
    };
    // He for ReLU: variance 2 / fan-in; Glorot elsewhere: 2 / (fan-in + fan-out).
    EXPECT_NEAR(mean_square(tensor(0)), 2.0 / 50, 0.1 * 2.0 / 50);
    EXPECT_NEAR(mean_square(tensor(2)), 2.0 / 80, 0.1 * 2.0 / 80);
    EXPECT_LE(std::ranges::max(tensor(0)), static_cast<float>(std::sqrt(6.0 / 50)));
    EXPECT_LE(std::ranges::max(tensor(2)), static_cast<float>(std::sqrt(6.0 / 80)));
    EXPECT_LT(std::ranges::min(tensor(2)), 0.0F);
    EXPECT_FALSE(std::equal(tensor(0).begin(), tensor(0).begin() + 10, tensor(2).begin()))
        << "two tensors share a stream";
    EXPECT_TRUE(std::ranges::all_of(tensor(1), [](float value) { return value == 0; }));
    EXPECT_TRUE(std::ranges::all_of(tensor(3), [](float value) { return value == 0; }));
}

TEST(Network, ForwardFollowsTheDefinition) {
    Network<float> network("dense 2 relu, dense 2", {3}, support::products());
    network.reserve(Extent::of(2, 1));
    std::vector<float> parameters(network.layout().arena_size());
    const auto set = [&](std::size_t tensor, std::vector<float> values) {
        std::ranges::copy(values, network.layout()[tensor].in(std::span(parameters)).begin());
    };
    set(0, {1, 2, 3, -1, 0, 1}); // outputs × inputs
    set(1, {0.5F, -0.25F});
    set(2, {2, 1, -1, 3});
    set(3, {0, 1});
    const std::vector<float> x{1, 0, -1, 0.5F, 1, 2};
    const auto y = network.forward(parameters, {std::array<std::size_t, 2>{0, 2}}, {x.data(), 2, 3});
    ASSERT_EQ(y.rows, 2U);
    ASSERT_EQ(y.cols, 2U);
    // z1 = (1-3+.5, -1-1-.25) = (-1.5, -2.25) -> (0, 0); z2 = (.5+2+6+.5, -.5+2-.25) = (9, 1.25)
    EXPECT_EQ(std::vector<float>(y.row(0).begin(), y.row(0).end()), (std::vector<float>{0, 1}));
    EXPECT_EQ(std::vector<float>(y.row(1).begin(), y.row(1).end()), (std::vector<float>{19.25F, -4.25F}));
}

// The arithmetic for a row must not depend on the other rows of the call. So results do not depend on the number of
// ranks.
TEST(Network, ShardsDoNotInfluenceEachOther) {
    const auto bits = [](core::MatrixView<const float> matrix) {
        std::vector<std::uint32_t> all;
        for (const float value : matrix.values()) {
            all.push_back(std::bit_cast<std::uint32_t>(value));
        }
        return all;
    };
    const std::vector<std::size_t> offsets{0, 1, 6, 6, 14, 23};
    for (const auto& [layers, shape] : {std::pair{"dense 13 sigmoid, dense 2 tanh", Shape{37}},
                                        {"dense 16 sigmoid, dense 10 relu", {784}},
                                        {"dense 100 tanh, dense 33 relu, dense 5", {300}},
                                        {"conv 7x3x3 pad 2 stride 2 relu, maxpool 2, dense 5", {2, 9, 11}},
                                        {"dense 30 relu, dense 5", {2, 3, 5}},
                                        {"conv 5x5x5, avgpool 1", {1, 5, 5}},
                                        {"lstm 13, dense 5", {6, 7}}}) {
        const std::size_t inputs = element_count(shape);
        Network<float> network(layers, shape, support::products());
        network.reserve(Extent::of(23, offsets.size() - 1));
        const std::vector<float> parameters = draw(network.layout().arena_size(), 1);
        const std::vector<float> x = draw(23 * inputs, 2);
        const auto together = network.forward(parameters, {offsets}, {x.data(), 23, inputs});
        std::vector<std::vector<std::uint32_t>> parts;
        for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
            parts.push_back(bits(together.block(offsets[s], offsets[s + 1] - offsets[s])));
        }
        for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
            const std::size_t rows = offsets[s + 1] - offsets[s];
            const std::array<std::size_t, 2> alone{0, rows};
            const auto y = network.forward(parameters, {alone}, {x.data() + offsets[s] * inputs, rows, inputs});
            EXPECT_EQ(bits(y), parts[s]) << layers << ", shard " << s;
        }
    }
}

} // namespace
} // namespace dtrain::nn
