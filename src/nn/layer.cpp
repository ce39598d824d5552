#include "dtrain/nn/layer.hpp"

#include "layer_arguments.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace dtrain::nn {
namespace {

template <class Real>
struct LayerType {
    std::string_view name;
    std::unique_ptr<Layer<Real>> (*make)(const LayerArguments&);
};

template <class Real>
constexpr std::array layer_types{LayerType<Real>{"dense", make_dense<Real>}};

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
        const LayerArguments arguments{fmt::format("{}", fmt::join(words, " ")), words,
                                       layers.empty() ? input : layers.back()->output_shape(),
                                       fmt::format("{:02}_{}", layers.size() + 1, words[0]), layout};
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
