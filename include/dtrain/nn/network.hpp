#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/nn/layer.hpp"
#include "dtrain/nn/parameters.hpp"
#include "dtrain/nn/shard_gradients.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace dtrain::nn {

/// A feed-forward network: a chain of layers, and the activations of one batch. The parameters live elsewhere, in one
/// flat arena described by `layout()`.
template <class Real>
class Network {
  public:
    /// Throws std::invalid_argument where the list of layers is wrong, as make_layers says.
    Network(std::string_view layers, const Shape& input);

    /// Allocates activations for batches of up to `rows` samples. Forward and backward allocate nothing.
    void reserve(std::size_t rows);

    [[nodiscard]] const ParameterLayout& layout() const noexcept { return layout_; }
    [[nodiscard]] const std::vector<std::unique_ptr<Layer<Real>>>& layers() const noexcept { return layers_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }
    [[nodiscard]] std::size_t outputs() const noexcept { return element_count(layers_.back()->output_shape()); }
    [[nodiscard]] double forward_flops() const noexcept; ///< per sample
    /// Per sample, forward and backward: the input's gradient is not computed, so the first layer costs twice its
    /// forward pass and every other layer three times.
    [[nodiscard]] double training_flops() const noexcept;
    /// Bytes that `reserve(rows)` allocates.
    [[nodiscard]] std::size_t activation_bytes(std::size_t rows) const noexcept;

    void initialise(std::span<Real> parameters, std::uint64_t seed) const;

    /// The outputs (N × classes) for x (N × inputs), which has to stay as it is until `backward` is done.
    [[nodiscard]] core::MatrixView<const Real> forward(std::span<const Real> parameters,
                                                       core::MatrixView<const Real> x);

    /// Where the derivative of the cost by the outputs of the last forward pass has to be put for `backward`.
    [[nodiscard]] core::MatrixView<Real> output_gradient(std::size_t rows) const noexcept;

    /// Backpropagation of what is in output_gradient(): the gradients of all parameters.
    void backward(std::span<const Real> parameters, ShardOffsets shards, core::MatrixView<const Real> x,
                  ShardGradients<Real>& gradients);

  private:
    [[nodiscard]] std::size_t width(std::size_t layer) const noexcept {
        return element_count(layers_[layer]->output_shape());
    }
    [[nodiscard]] std::size_t widest() const noexcept;

    std::size_t inputs_;
    ParameterLayout layout_;
    std::vector<std::unique_ptr<Layer<Real>>> layers_;
    std::vector<core::Buffer<Real>> activations_; ///< of each layer, rows × width
    /// Of the activations of layer l, in deltas_[l % 2]: while one is being read the other is being written.
    core::Buffer<Real> deltas_[2];
};

} // namespace dtrain::nn
