#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/nn/parameters.hpp"
#include "dtrain/nn/shard_gradients.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::nn {

/// One layer of a network. It holds shapes and scratch memory; the parameters it works on are handed in. Rows of its
/// matrices are samples, and the arithmetic done for a row does not depend on which other rows are in the same call.
///
/// Legend of shapes: N rows (samples), I inputs and O outputs of one sample.
template <class Real>
class Layer {
  public:
    Layer() = default;
    virtual ~Layer() = default;
    Layer(const Layer&) = delete;
    Layer& operator=(const Layer&) = delete;

    /// As written in a config: "dense 16 sigmoid".
    [[nodiscard]] virtual std::string description() const = 0;
    [[nodiscard]] virtual const Shape& output_shape() const noexcept = 0;
    /// Floating-point operations per sample of a forward pass, a multiplication and an addition counting as two.
    [[nodiscard]] virtual double forward_flops() const noexcept = 0;

    /// Draws the initial values of this layer's tensors. Reproducible: a function of (seed, tensor).
    virtual void initialise(std::span<Real> parameters, std::uint64_t seed) const = 0;

    /// y (N × O) from x (N × I).
    virtual void forward(std::span<const Real> parameters, core::MatrixView<const Real> x,
                         core::MatrixView<Real> y) = 0;

    /// From dy = ∂C/∂y (N × O, overwritten) to the parameters' gradients and dx = ∂C/∂x (N × I; not computed if empty).
    /// x and y are those of the last forward pass.
    virtual void backward(std::span<const Real> parameters, ShardOffsets shards, core::MatrixView<const Real> x,
                          core::MatrixView<const Real> y, core::MatrixView<Real> dy, core::MatrixView<Real> dx,
                          ShardGradients<Real>& gradients) = 0;
};

/// Appends the layers of a comma-separated list such as "dense 16 sigmoid, dense 10" that follow a sample of shape
/// `input`, and their tensors to `layout`. Throws std::invalid_argument that says which layer is wrong and what is
/// allowed.
template <class Real>
[[nodiscard]] std::vector<std::unique_ptr<Layer<Real>>> make_layers(std::string_view list, const Shape& input,
                                                                    ParameterLayout& layout);

} // namespace dtrain::nn
