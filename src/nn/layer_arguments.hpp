#pragma once

#include "dtrain/nn/parameters.hpp"

#include <fmt/format.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::nn {

template <class Real>
class Layer;

/// What a layer is made from.
struct LayerArguments {
    std::string text;                    ///< the whole entry, for messages
    std::vector<std::string_view> words; ///< of the entry, the type first
    Shape input;
    std::string tensor_prefix; ///< "01_dense"
    ParameterLayout& layout;

    [[noreturn]] void fail(std::string_view problem) const {
        throw std::invalid_argument(fmt::format("layer `{}`: {}", text, problem));
    }
};

template <class Real>
std::unique_ptr<Layer<Real>> make_dense(const LayerArguments& arguments);

} // namespace dtrain::nn
