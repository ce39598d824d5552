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

/// What layers that draw random numbers have to know of the rows of a step, so that what they draw is a function of
/// (seed, epoch, sample) and of nothing else.
struct Draw {
    std::uint64_t seed = 0;
    std::uint32_t epoch = 0;
    std::int64_t first_sample = 0;          ///< the number in the training set of the rank's first sample
    std::span<const std::uint32_t> samples; ///< of every row, counted from that
};

/// What a forward pass has to know beside its input.
struct Pass {
    ShardOffsets shards;            ///< the rows of each shard
    const Draw* training = nullptr; ///< null when nothing is drawn: in evaluation
};

/// One layer of a network. It holds shapes and scratch memory; the parameters it works on are handed in. The arithmetic
/// done for a sample does not depend on which other samples are in the same call.
///
/// Legend of shapes: N samples, I inputs and O outputs of one sample. Matrices are N × I and N × O, or what
/// Arrangement::interleaved makes of these.
template <class Real>
class Layer {
  public:
    explicit Layer(std::string label) : label_(std::move(label)) {}
    virtual ~Layer() = default;
    Layer(const Layer&) = delete;
    Layer& operator=(const Layer&) = delete;

    /// Number and type, "01_dense": of its tensors (Tensor::layer) and in files.
    [[nodiscard]] const std::string& label() const noexcept { return label_; }
    /// As written in a config: "dense 16 sigmoid".
    [[nodiscard]] virtual std::string description() const = 0;
    [[nodiscard]] virtual const Shape& output_shape() const noexcept = 0;
    /// Whether its outputs are sums of products, with no activation behind them.
    [[nodiscard]] virtual bool ends_linear() const noexcept { return false; }
    [[nodiscard]] virtual Arrangement arrangement() const noexcept { return Arrangement::rows; }
    /// Floating-point operations per sample of a forward pass, a multiplication and an addition counting as two.
    [[nodiscard]] virtual double forward_flops() const noexcept = 0;
    /// And of a backward pass, with or without the gradient of the input: each takes as many as the forward pass.
    [[nodiscard]] virtual double backward_flops(bool input_gradient) const noexcept {
        return (input_gradient ? 2 : 1) * forward_flops();
    }

    /// Draws the initial values of this layer's tensors. Reproducible: a function of (seed, tensor).
    virtual void initialise(std::span<Real> parameters, std::uint64_t seed) const = 0;

    /// Takes from `book` what passes over up to `extent` need beyond their matrices; they themselves allocate nothing.
    virtual void reserve(const Extent& /*extent*/, core::MemoryBook& /*book*/) {}
    /// The most elements that `backward` has ShardGradients::add_up add up.
    [[nodiscard]] virtual std::size_t most_added_up() const noexcept { return 0; }

    /// y (N × O) from x (N × I).
    virtual void forward(std::span<const Real> parameters, const Pass& pass, core::MatrixView<const Real> x,
                         core::MatrixView<Real> y) = 0;

    /// From dy = ∂C/∂y (N × O, overwritten) to the parameters' gradients and dx = ∂C/∂x (N × I; not computed if empty).
    /// x and y are those of the last forward pass. `shards` counts rows or, if interleaved, groups. The last tensor's
    /// gradient comes first.
    virtual void backward(std::span<const Real> parameters, ShardOffsets shards, core::MatrixView<const Real> x,
                          core::MatrixView<const Real> y, core::MatrixView<Real> dy, core::MatrixView<Real> dx,
                          ShardGradients<Real>& gradients) = 0;

  private:
    std::string label_;
};

/// The layers of a comma-separated list such as "dense 16 sigmoid, dense 10" that follow a sample of shape `input`;
/// their tensors are appended to `layout`, and they multiply by `products`, which has to outlive them. Throws
/// std::invalid_argument that says which layer is wrong and what is allowed.
template <class Real>
[[nodiscard]] std::vector<std::unique_ptr<Layer<Real>>>
make_layers(std::string_view list, const Shape& input, ParameterLayout& layout, kernels::Products& products);

} // namespace dtrain::nn
