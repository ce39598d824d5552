#pragma once

#include "convolution.hpp"

namespace dtrain::nn {

/// Whether a convolution of `channels` input channels gains from bfloat16. With fewer channels, most of the products
/// would be with zeros, because a panel has 16 channels in the gradient of the weights.
[[nodiscard]] constexpr bool gains_from_bfloat16(std::size_t channels) noexcept {
    return channels >= 4;
}

/// A convolutional layer that rounds its input, weights and ∂C/∂z to bfloat16 for all three products.
[[nodiscard]] std::unique_ptr<Layer<float>> make_bfloat16_convolution(const kernels::Maps& input,
                                                                      const kernels::Maps& output, std::size_t kernel,
                                                                      std::size_t padding, std::size_t stride,
                                                                      Activation activation,
                                                                      const LayerArguments& arguments);

} // namespace dtrain::nn
