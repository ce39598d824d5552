#include "dtrain/nn/layer.hpp"

#include "layer_arguments.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

namespace dtrain::nn {

std::size_t LayerArguments::number_in(std::string_view digits, std::string_view what, std::size_t low,
                                      std::size_t high) const {
    std::size_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size() || value < low || value > high) {
        fail(fmt::format("{} has to be between {} and {}", what, low, high));
    }
    return value;
}

Activation LayerArguments::activation_in(std::string_view name) const {
    const auto known = parse_activation(name);
    if (!known) {
        fail(fmt::format("unknown activation {}; available: linear, sigmoid, relu, tanh", name));
    }
    return *known;
}

Shape LayerArguments::input_maps() const {
    require_size(input);
    if (input.size() == 2) {
        return {1, input[0], input[1]};
    }
    if (input.size() != 3) {
        fail(fmt::format("needs images, rows x columns or maps x rows x columns, but gets {}", to_string(input)));
    }
    return input;
}

void LayerArguments::require_size(const Shape& shape) const {
    constexpr double most_values = 0x1p30;
    double values = 1;
    for (const std::size_t size : shape) {
        values *= static_cast<double>(size);
    }
    if (values > most_values) {
        fail(fmt::format("{} values are too many", to_string(shape)));
    }
}

namespace {

template <class Real>
struct LayerType {
    std::string_view name;
    std::unique_ptr<Layer<Real>> (*make)(const LayerArguments&);
};

template <class Real>
constexpr std::array layer_types{
    LayerType<Real>{"dense", make_dense<Real>},      LayerType<Real>{"conv", make_convolution<Real>},
    LayerType<Real>{"maxpool", make_max_pool<Real>}, LayerType<Real>{"avgpool", make_average_pool<Real>},
    LayerType<Real>{"lstm", make_lstm<Real>},        LayerType<Real>{"dropout", make_dropout<Real>}};

std::vector<std::string_view> split_words(std::string_view text) {
    std::vector<std::string_view> words;
    const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
    for (auto at = text.begin();;) {
        const auto begin = std::find_if_not(at, text.end(), is_space);
        if (begin == text.end()) {
            return words;
        }
        at = std::find_if(begin, text.end(), is_space);
        words.emplace_back(begin, at);
    }
}

} // namespace

template <class Real>
std::vector<std::unique_ptr<Layer<Real>>> make_layers(std::string_view list, const Shape& input,
                                                      ParameterLayout& layout) {
    std::vector<std::unique_ptr<Layer<Real>>> layers;
    for (std::size_t begin = 0; begin <= list.size();) {
        const std::size_t end = std::min(list.find(',', begin), list.size());
        const std::vector<std::string_view> words = split_words(list.substr(begin, end - begin));
        begin = end + 1;
        if (words.empty()) {
            throw std::invalid_argument("an empty entry between commas");
        }
        const auto& types = layer_types<Real>;
        const auto type = std::find_if(types.begin(), types.end(), [&](const auto& t) { return t.name == words[0]; });
        const LayerArguments arguments{fmt::format("{}", fmt::join(words, " ")),
                                       words,
                                       layers.empty() ? input : layers.back()->output_shape(),
                                       layers.size() + 1,
                                       fmt::format("{:02}_{}", layers.size() + 1, words[0]),
                                       layout};
        if (type == types.end()) {
            std::vector<std::string_view> names;
            std::transform(types.begin(), types.end(), std::back_inserter(names), [](const auto& t) { return t.name; });
            arguments.fail(fmt::format("unknown layer type {}; available: {}", words[0], fmt::join(names, ", ")));
        }
        layers.push_back(type->make(arguments));
    }
    return layers;
}

template std::vector<std::unique_ptr<Layer<float>>> make_layers(std::string_view, const Shape&, ParameterLayout&);
template std::vector<std::unique_ptr<Layer<double>>> make_layers(std::string_view, const Shape&, ParameterLayout&);

} // namespace dtrain::nn
