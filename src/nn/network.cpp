#include "dtrain/nn/network.hpp"

#include <algorithm>

namespace dtrain::nn {

using core::MatrixView;

template <class Real>
Network<Real>::Network(std::string_view layers, const Shape& input)
    : inputs_(element_count(input)), layers_(make_layers<Real>(layers, input, layout_)) {}

template <class Real>
std::size_t Network<Real>::widest() const noexcept {
    std::size_t largest = 0;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        largest = std::max(largest, width(l));
    }
    return largest;
}

template <class Real>
void Network<Real>::reserve(std::size_t rows) {
    activations_.clear();
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        activations_.emplace_back(rows * width(l));
    }
    for (core::Buffer<Real>& delta : deltas_) {
        delta = core::Buffer<Real>(rows * widest());
    }
}

template <class Real>
std::size_t Network<Real>::activation_bytes(std::size_t rows) const noexcept {
    std::size_t elements = 2 * widest();
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        elements += width(l);
    }
    return rows * elements * sizeof(Real);
}

template <class Real>
double Network<Real>::forward_flops() const noexcept {
    double sum = 0;
    for (const auto& layer : layers_) {
        sum += layer->forward_flops();
    }
    return sum;
}

template <class Real>
double Network<Real>::training_flops() const noexcept {
    return 3 * forward_flops() - layers_.front()->forward_flops();
}

template <class Real>
void Network<Real>::initialise(std::span<Real> parameters, std::uint64_t seed) const {
    for (const auto& layer : layers_) {
        layer->initialise(parameters, seed);
    }
}

template <class Real>
MatrixView<const Real> Network<Real>::forward(std::span<const Real> parameters, MatrixView<const Real> x) {
    MatrixView<const Real> input = x;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        const MatrixView<Real> output = activations_[l].matrix(x.rows, width(l));
        layers_[l]->forward(parameters, input, output);
        input = output;
    }
    return input;
}

template <class Real>
MatrixView<Real> Network<Real>::output_gradient(std::size_t rows) const noexcept {
    const std::size_t last = layers_.size() - 1;
    return deltas_[last % 2].matrix(rows, width(last));
}

template <class Real>
void Network<Real>::backward(std::span<const Real> parameters, ShardOffsets shards, MatrixView<const Real> x,
                             ShardGradients<Real>& gradients) {
    for (std::size_t l = layers_.size(); l-- > 0;) {
        const MatrixView<Real> dy = deltas_[l % 2].matrix(x.rows, width(l));
        const MatrixView<const Real> y = activations_[l].matrix(x.rows, width(l));
        if (l == 0) {
            layers_[l]->backward(parameters, shards, x, y, dy, {}, gradients);
            return;
        }
        const MatrixView<const Real> input = activations_[l - 1].matrix(x.rows, width(l - 1));
        const MatrixView<Real> dx = deltas_[(l - 1) % 2].matrix(x.rows, width(l - 1));
        layers_[l]->backward(parameters, shards, input, y, dy, dx, gradients);
    }
}

template class Network<float>;
template class Network<double>;

} // namespace dtrain::nn
