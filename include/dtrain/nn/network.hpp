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

/// A feed-forward network: a chain of layers and the activations of one batch. The caller passes the parameters in one
/// flat buffer that layout() describes.
template <class Real>
class Network {
  public:
    /// `products` must outlive the network. Throws std::invalid_argument if the list of layers is wrong, as make_layers
    /// does.
    Network(std::string_view layers, const Shape& input, kernels::Products& products);

    /// Allocates the memory for batches of up to `extent`. Forward and backward allocate nothing.
    void reserve(const Extent& extent);
    /// The bytes that reserve() would allocate. Allocates nothing.
    [[nodiscard]] std::size_t bytes_for(const Extent& extent);

    [[nodiscard]] const ParameterLayout& layout() const noexcept { return layout_; }
    [[nodiscard]] const std::vector<std::unique_ptr<Layer<Real>>>& layers() const noexcept { return layers_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }
    [[nodiscard]] std::size_t outputs() const noexcept { return element_count(layers_.back()->output_shape()); }
    [[nodiscard]] double forward_flops() const noexcept; ///< per sample
    /// Forward and backward per sample. The gradient of the first layer's input is not needed and does not count.
    [[nodiscard]] double training_flops() const noexcept;
    /// The maximum of Layer::max_added_up over all layers.
    [[nodiscard]] std::size_t max_added_up() const noexcept;

    /// Sets the initial parameters. Does not touch the gaps between tensors.
    void initialise(std::span<Real> parameters, std::uint64_t seed) const;

    /// Computes the outputs (N × classes) for x (N × inputs). The result is valid until the next forward pass. The
    /// caller must not change x before `backward` returns.
    [[nodiscard]] core::MatrixView<const Real> forward(std::span<const Real> parameters, const Pass& pass,
                                                       core::MatrixView<const Real> x);

    /// Copies the outputs of layer number `layer` (from 0) in the last forward pass to `out` (N × width). `shards` are
    /// the shards of that pass. The values of a sample are in the order of the layer's output shape.
    void copy_activations(std::size_t layer, ShardOffsets shards, core::MatrixView<Real> out) const noexcept;

    /// The input of `backward`, N × classes: the caller stores the derivative of the cost with respect to the outputs
    /// of the last forward pass here.
    [[nodiscard]] core::MatrixView<Real> output_gradient(std::size_t rows) const noexcept {
        return deltas_[0].matrix(rows, outputs());
    }

    /// See Layer::mixes_samples().
    [[nodiscard]] bool mixes_samples() const noexcept;

    /// Backpropagation from output_gradient(): computes the gradients of all parameters. `shards` and `x` must be the
    /// arguments of the last forward pass.
    void backward(std::span<const Real> parameters, ShardOffsets shards, core::MatrixView<const Real> x,
                  ShardGradients<Real>& gradients);

  private:
    [[nodiscard]] Arrangement arrangement(std::size_t layer) const noexcept { return layers_[layer]->arrangement(); }
    /// The arrangement in which the previous layer leaves the input of a layer.
    [[nodiscard]] Arrangement input_arrangement(std::size_t layer) const noexcept {
        return layer == 0 ? Arrangement::rows : arrangement(layer - 1);
    }
    [[nodiscard]] std::size_t width(std::size_t layer) const noexcept {
        return element_count(layers_[layer]->output_shape());
    }
    [[nodiscard]] std::size_t input_width(std::size_t layer) const noexcept {
        return layer == 0 ? inputs_ : width(layer - 1);
    }
    [[nodiscard]] core::MatrixView<Real> view(const core::Buffer<Real>& buffer, Arrangement arrangement,
                                              std::size_t rows, std::size_t width) const noexcept;
    void allocate(core::MemoryBook& book, const Extent& extent);
    [[nodiscard]] std::size_t largest_delta(const Extent& extent) const noexcept;

    std::size_t inputs_;
    ParameterLayout layout_;
    std::vector<std::unique_ptr<Layer<Real>>> layers_;
    std::vector<core::Buffer<Real>> outputs_; ///< the outputs of each layer
    /// The rearranged input of each layer that needs another arrangement than the previous layer produces. The last
    /// element is for the output of the network.
    std::vector<core::Buffer<Real>> rearranged_;
    /// The derivatives with respect to the activations. A layer reads one buffer and writes the other.
    core::Buffer<Real> deltas_[2];
    core::Buffer<std::size_t> group_offsets_; ///< the groups of each shard in the last forward pass
    std::span<std::size_t> groups_;
};

} // namespace dtrain::nn
