#include "dtrain/nn/layer.hpp"

#include "dtrain/core/nearest.hpp"
#include "dtrain/core/number.hpp"
#include "dtrain/core/registry.hpp"

#include "layer_arguments.hpp"

#include <algorithm>
#include <iterator>
#include <sstream>

namespace dtrain::nn {

std::size_t LayerArguments::number_in(std::string_view digits, std::string_view what, std::size_t low,
                                      std::size_t high) const {
    const auto value = core::parse_number<std::size_t>(digits);
    if (!value || *value < low || *value > high) {
        fail(fmt::format("{} must be a whole number from {} to {}", what, low, high));
    }
    return *value;
}

Activation LayerArguments::activation_in(std::string_view name) const {
    const auto known = parse_activation(name);
    if (!known) {
        const auto names = activation_names();
        fail(fmt::format("unknown activation {}; expected one of {}{}", name, fmt::join(names, ", "),
                         core::did_you_mean(name, names)));
    }
    return *known;
}

Shape LayerArguments::input_maps() const {
    require_size(input);
    if (input.size() == 2) {
        return {1, input[0], input[1]};
    }
    if (input.size() != 3) {
        fail(fmt::format("the input must be images (rows x columns) or feature maps (channels x rows x columns), but "
                         "its shape is {}",
                         to_string(input)));
    }
    return input;
}

void LayerArguments::require_size(const Shape& shape) const {
    constexpr std::size_t max_values = std::size_t{1} << 30;
    double values = 1;
    for (const std::size_t size : shape) {
        values *= static_cast<double>(size);
    }
    if (values > static_cast<double>(max_values)) {
        fail(fmt::format("too large: {} values; a sample or a weight tensor can have at most {}", to_string(shape),
                         max_values));
    }
}

namespace {

using core::Named;
template <class Real>
constexpr core::Registry layer_types("layer type",
                                     {Named{"dense", make_dense<Real>}, Named{"conv", make_convolution<Real>},
                                      Named{"maxpool", make_max_pool<Real>}, Named{"avgpool", make_average_pool<Real>},
                                      Named{"lstm", make_lstm<Real>}, Named{"dropout", make_dropout<Real>},
                                      Named{"batchnorm", make_batch_norm<Real>}});

} // namespace

template <class Real>
std::vector<std::unique_ptr<Layer<Real>>> make_layers(std::string_view list, const Shape& input,
                                                      ParameterLayout& layout, kernels::Products& products) {
    std::vector<std::unique_ptr<Layer<Real>>> layers;
    for (std::size_t begin = 0; begin <= list.size();) {
        const std::size_t end = std::min(list.find(',', begin), list.size());
        std::istringstream entry{std::string(list.substr(begin, end - begin))};
        const std::vector<std::string> words{std::istream_iterator<std::string>(entry), {}};
        begin = end + 1;
        if (words.empty()) {
            throw std::invalid_argument(
                "empty entry in the list of layers; expected a layer before and after each comma");
        }
        const LayerArguments arguments{fmt::format("{}", fmt::join(words, " ")),
                                       words,
                                       layers.empty() ? input : layers.back()->output_shape(),
                                       layers.size() + 1,
                                       fmt::format("{:02}_{}", layers.size() + 1, words[0]),
                                       layout,
                                       products};
        const auto* const make = layer_types<Real>.find(words[0]);
        if (make == nullptr) {
            const std::vector<std::string> names = layer_types<Real>.names();
            arguments.fail(fmt::format("unknown layer type {}; expected one of {}{}", words[0], fmt::join(names, ", "),
                                       core::did_you_mean(words[0], names)));
        }
        layers.push_back((*make)(arguments));
    }
    return layers;
}

template std::vector<std::unique_ptr<Layer<float>>> make_layers(std::string_view, const Shape&, ParameterLayout&,
                                                                kernels::Products&);
template std::vector<std::unique_ptr<Layer<double>>> make_layers(std::string_view, const Shape&, ParameterLayout&,
                                                                 kernels::Products&);

} // namespace dtrain::nn
