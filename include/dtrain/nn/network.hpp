#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/nn/interleave.hpp"
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
    /// `products` has to outlive the network. Throws std::invalid_argument where the list of layers is wrong, as
    /// make_layers says.
    Network(std::string_view layers, const Shape& input, kernels::Products& products);

    /// Allocates what batches of up to `extent` need. Forward and backward allocate nothing.
    void reserve(const Extent& extent);
    /// What that takes; allocates nothing.
    [[nodiscard]] std::size_t bytes_for(const Extent& extent);

    [[nodiscard]] const ParameterLayout& layout() const noexcept { return layout_; }
    [[nodiscard]] const std::vector<std::unique_ptr<Layer<Real>>>& layers() const noexcept { return layers_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }
    [[nodiscard]] std::size_t outputs() const noexcept { return element_count(layers_.back()->output_shape()); }
    [[nodiscard]] double forward_flops() const noexcept; ///< per sample
    /// Per sample, forward and backward, where the first layer's input needs no gradient.
    [[nodiscard]] double training_flops() const noexcept;
    /// The most elements that a layer has added up by ShardGradients::add_up.
    [[nodiscard]] std::size_t most_added_up() const noexcept;

    void initialise(std::span<Real> parameters, std::uint64_t seed) const;

    /// The outputs (N × classes) for x (N × inputs), which has to stay as it is until `backward` is done.
    [[nodiscard]] core::MatrixView<const Real> forward(std::span<const Real> parameters, const Pass& pass,
                                                       core::MatrixView<const Real> x);

    /// out (N × width) = what layer number `layer`, from 0, made of the N samples of the last forward pass, whose
    /// `shards` these are: a sample's values one after the other, in the order of its output shape.
    void copy_activations(std::size_t layer, ShardOffsets shards, core::MatrixView<Real> out) const noexcept;

    /// Where the derivative of the cost by the outputs of the last forward pass has to be put for `backward`.
    [[nodiscard]] core::MatrixView<Real> output_gradient(std::size_t rows) const noexcept {
        return deltas_[0].matrix(rows, outputs());
    }

    /// Backpropagation of what is in output_gradient(): the gradients of all parameters. `shards` are those of the
    /// forward pass.
    void backward(std::span<const Real> parameters, ShardOffsets shards, core::MatrixView<const Real> x,
                  ShardGradients<Real>& gradients);

  private:
    [[nodiscard]] Arrangement arrangement(std::size_t layer) const noexcept { return layers_[layer]->arrangement(); }
    /// That of the input of a layer, as the layer before leaves it.
    [[nodiscard]] Arrangement arrangement_before(std::size_t layer) const noexcept {
        return layer == 0 ? Arrangement::rows : arrangement(layer - 1);
    }
    [[nodiscard]] std::size_t width(std::size_t layer) const noexcept {
        return element_count(layers_[layer]->output_shape());
    }
    [[nodiscard]] std::size_t width_before(std::size_t layer) const noexcept {
        return layer == 0 ? inputs_ : width(layer - 1);
    }
    [[nodiscard]] core::MatrixView<Real> view(const core::Buffer<Real>& buffer, Arrangement arrangement,
                                              std::size_t rows, std::size_t width) const noexcept;
    void take_from(core::MemoryBook& book, const Extent& extent);
    [[nodiscard]] std::size_t largest_delta(const Extent& extent) const noexcept;

    std::size_t inputs_;
    ParameterLayout layout_;
    std::vector<std::unique_ptr<Layer<Real>>> layers_;
    std::vector<core::Buffer<Real>> outputs_; ///< of each layer
    /// Of each layer whose input has to be arranged anew; and behind the last layer the network's output, likewise.
    std::vector<core::Buffer<Real>> rearranged_;
    /// The derivatives by the activations: while one is being read the other is being written.
    core::Buffer<Real> deltas_[2];
    core::Buffer<std::size_t> group_offsets_; ///< of the last forward pass
    std::span<std::size_t> groups_;
};

} // namespace dtrain::nn
