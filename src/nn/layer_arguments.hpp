#pragma once

#include "dtrain/kernels/products.hpp"
#include "dtrain/nn/activation.hpp"
#include "dtrain/nn/parameters.hpp"

#include <fmt/format.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dtrain::nn {

template <class Real>
class Layer;

/// The arguments of the make_... functions, for one entry of the list of layers.
struct LayerArguments {
    std::string text;               ///< the whole entry, for messages
    std::vector<std::string> words; ///< the words of the entry; the first is the type
    Shape input;                    ///< the shape of a sample
    std::size_t number = 0;         ///< the number of the layer, from 1
    std::string label;              ///< "01_dense"
    ParameterLayout& layout;
    kernels::Products& products;

    [[noreturn]] void fail(std::string_view problem) const {
        throw std::invalid_argument(fmt::format("layer `{}`: {}", text, problem));
    }
    /// Adds a tensor of this layer to the layout and returns its number.
    [[nodiscard]] std::size_t add_tensor(const std::string& part, Shape shape) const {
        return layout.add(label, part, std::move(shape));
    }
    /// Parses `digits` as a whole number from `low` to `high`; otherwise fails with `what` in the message.
    [[nodiscard]] std::size_t number_in(std::string_view digits, std::string_view what, std::size_t low,
                                        std::size_t high) const;
    /// The products for a matrix of weights. If one of its sides is short, rounding the other factor to bfloat16 would
    /// take longer than it saves. The choice depends on the network alone, and so do the bits.
    [[nodiscard]] kernels::Products& products_for(std::size_t rows, std::size_t cols) const {
        constexpr std::size_t long_side = 32;
        return rows < long_side || cols < long_side ? products.unrounded() : products;
    }
    [[nodiscard]] Activation activation_in(std::string_view name) const;
    /// The input as channels × height × width. A sample of two dimensions has one channel. Fails for other shapes.
    [[nodiscard]] Shape input_maps() const;
    /// Fails if a sample or a tensor of this shape would have more than 2^30 values.
    void require_size(const Shape& shape) const;
};

template <class Real>
std::unique_ptr<Layer<Real>> make_dense(const LayerArguments& arguments);
template <class Real>
std::unique_ptr<Layer<Real>> make_convolution(const LayerArguments& arguments);
template <class Real>
std::unique_ptr<Layer<Real>> make_max_pool(const LayerArguments& arguments);
template <class Real>
std::unique_ptr<Layer<Real>> make_average_pool(const LayerArguments& arguments);
template <class Real>
std::unique_ptr<Layer<Real>> make_dropout(const LayerArguments& arguments);
template <class Real>
std::unique_ptr<Layer<Real>> make_batch_norm(const LayerArguments& arguments);
template <class Real>
std::unique_ptr<Layer<Real>> make_lstm(const LayerArguments& arguments);

} // namespace dtrain::nn
