#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/memory_book.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/nn/interleave.hpp"
#include "dtrain/nn/parameters.hpp"
#include "dtrain/nn/shard_gradients.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dtrain::nn {

/// Identifies the rows of a step for layers that use random numbers. Their random numbers must depend only on (seed,
/// epoch, sample).
struct Draw {
    std::uint64_t seed = 0;
    std::uint32_t epoch = 0;
    std::int64_t first_sample = 0;          ///< the rank's first sample, as its number in the training set
    std::span<const std::uint32_t> samples; ///< for each row, its sample number minus first_sample
};

/// The arguments of a forward pass besides its input.
struct Pass {
    ShardOffsets shards;            ///< the rows of each shard
    const Draw* training = nullptr; ///< null in evaluation, where no random numbers are used
};

/// One layer of a network. It holds shapes and scratch memory; the caller passes the parameters. The arithmetic for a
/// sample does not depend on the other samples of the call, unless mixes_samples(): then on those of its shard.
///
/// Shapes: N samples, I inputs and O outputs of one sample. Matrices are N × I and N × O, or their interleaved form
/// (Arrangement::interleaved).
template <class Real>
class Layer {
  public:
    explicit Layer(std::string label) : label_(std::move(label)) {}
    virtual ~Layer() = default;
    Layer(const Layer&) = delete;
    Layer& operator=(const Layer&) = delete;

    /// Number and type, such as "01_dense". Used for its tensors (Tensor::layer) and in files.
    [[nodiscard]] const std::string& label() const noexcept { return label_; }
    /// The layer as in a config: "dense 16 sigmoid".
    [[nodiscard]] virtual std::string description() const = 0;
    [[nodiscard]] virtual const Shape& output_shape() const noexcept = 0;
    /// Whether its outputs are sums of products without an activation.
    [[nodiscard]] virtual bool ends_linear() const noexcept { return false; }
    [[nodiscard]] virtual Arrangement arrangement() const noexcept { return Arrangement::rows; }
    /// Whether training mixes the samples of a shard. Micro-batches must then have whole shards.
    [[nodiscard]] virtual bool mixes_samples() const noexcept { return false; }
    /// Whether its products round their factors to bfloat16.
    [[nodiscard]] virtual bool rounds_factors() const noexcept { return false; }
    /// Floating-point operations of a forward pass per sample. A multiplication and an addition count as two.
    [[nodiscard]] virtual double forward_flops() const noexcept = 0;
    /// The same for a backward pass. The gradients of the weights and of the input cost one forward pass each.
    [[nodiscard]] virtual double backward_flops(bool input_gradient) const noexcept {
        return (input_gradient ? 2 : 1) * forward_flops();
    }

    /// Sets the initial values of this layer's tensors, a pure function of (seed, tensor). `parameters` is the whole
    /// flat buffer of the network.
    virtual void initialise(std::span<Real> parameters, std::uint64_t seed) const = 0;

    /// Allocates scratch memory for batches of up to `extent` from `book`. Forward and backward allocate nothing.
    virtual void reserve(const Extent& /*extent*/, core::MemoryBook& /*book*/) {}
    /// The largest `size` with which `backward` calls ShardGradients::add_up.
    [[nodiscard]] virtual std::size_t max_added_up() const noexcept { return 0; }

    /// Computes y (N × O) from x (N × I).
    virtual void forward(std::span<const Real> parameters, const Pass& pass, core::MatrixView<const Real> x,
                         core::MatrixView<Real> y) = 0;

    /// Computes the gradients of the parameters and dx = ∂C/∂x (N × I; not computed if null) from dy = ∂C/∂y (N × O).
    /// dy is overwritten. x and y must be the matrices of the last forward pass. `shards` counts rows or, if
    /// interleaved, groups. The layer adds the gradient of its last tensor first.
    virtual void backward(std::span<const Real> parameters, ShardOffsets shards, core::MatrixView<const Real> x,
                          core::MatrixView<const Real> y, core::MatrixView<Real> dy, core::MatrixView<Real> dx,
                          ShardGradients<Real>& gradients) = 0;

  private:
    std::string label_;
};

/// Makes the layers of a comma-separated list such as "dense 16 sigmoid, dense 10" for samples of shape `input`.
/// Appends their tensors to `layout`. The layers use `products`, which must outlive them. Throws std::invalid_argument
/// with the wrong layer and what is allowed.
template <class Real>
[[nodiscard]] std::vector<std::unique_ptr<Layer<Real>>>
make_layers(std::string_view list, const Shape& input, ParameterLayout& layout, kernels::Products& products);

} // namespace dtrain::nn
