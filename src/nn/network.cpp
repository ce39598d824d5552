#include "dtrain/nn/network.hpp"

#include <algorithm>

namespace dtrain::nn {

using core::MatrixView;

template <class Real>
Network<Real>::Network(std::string_view layers, const Shape& input, kernels::Products& products)
    : inputs_(element_count(input)), layers_(make_layers<Real>(layers, input, layout_, products)),
      outputs_(layers_.size()), rearranged_(layers_.size() + 1) {}

template <class Real>
MatrixView<Real> Network<Real>::view(const core::Buffer<Real>& buffer, Arrangement arrangement, std::size_t rows,
                                     std::size_t width) const noexcept {
    if (arrangement == Arrangement::rows) {
        return buffer.matrix(rows, width);
    }
    return buffer.matrix(Extent{rows, 0, groups_.back()}.template blocks<Real>(), width * block_lanes<Real>);
}

template <class Real>
std::size_t Network<Real>::largest_delta(const Extent& extent) const noexcept {
    std::size_t largest = extent.rows * outputs();
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        largest = std::max(largest, extent.template values<Real>(arrangement(l), width(l)));
        if (l > 0) {
            largest = std::max(largest, extent.template values<Real>(arrangement(l), input_width(l)));
        }
    }
    return largest;
}

template <class Real>
void Network<Real>::reserve(const Extent& extent) {
    core::MemoryBook book;
    allocate(book, extent);
}

template <class Real>
std::size_t Network<Real>::bytes_for(const Extent& extent) {
    core::MemoryBook book(core::MemoryBook::Mode::count);
    allocate(book, extent);
    return book.bytes();
}

template <class Real>
void Network<Real>::allocate(core::MemoryBook& book, const Extent& extent) {
    book.grant(extent.shards + 1, group_offsets_);
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        const auto values = [&](std::size_t width) { return extent.template values<Real>(arrangement(l), width); };
        book.grant(values(width(l)), outputs_[l]);
        book.grant(arrangement(l) == input_arrangement(l) ? 0 : values(input_width(l)), rearranged_[l]);
        layers_[l]->reserve(extent, book);
    }
    book.grant(arrangement(layers_.size() - 1) == Arrangement::rows ? 0 : extent.rows * outputs(), rearranged_.back());
    book.grant(largest_delta(extent), deltas_[0], deltas_[1]);
}

template <class Real>
std::size_t Network<Real>::max_added_up() const noexcept {
    std::size_t result = 0;
    for (const auto& layer : layers_) {
        result = std::max(result, layer->max_added_up());
    }
    return result;
}

template <class Real>
bool Network<Real>::mixes_samples() const noexcept {
    return std::ranges::any_of(layers_, [](const auto& layer) { return layer->mixes_samples(); });
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
    double sum = forward_flops();
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        sum += layers_[l]->backward_flops(l > 0);
    }
    return sum;
}

template <class Real>
void Network<Real>::initialise(std::span<Real> parameters, std::uint64_t seed) const {
    for (const auto& layer : layers_) {
        layer->initialise(parameters, seed);
    }
}

template <class Real>
MatrixView<const Real> Network<Real>::forward(std::span<const Real> parameters, const Pass& pass,
                                              MatrixView<const Real> x) {
    groups_ = group_offsets_.values().first(pass.shards.size());
    find_groups(pass.shards, groups_);
    MatrixView<const Real> input = x;
    Arrangement arranged = Arrangement::rows;
    const auto rearrange = [&](std::size_t place, Arrangement wanted, std::size_t columns) {
        if (arranged == wanted) {
            return;
        }
        const MatrixView<Real> output = view(rearranged_[place], wanted, x.rows, columns);
        wanted == Arrangement::rows ? deinterleave(input, pass.shards, output) : interleave(input, pass.shards, output);
        input = output;
        arranged = wanted;
    };
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        rearrange(l, arrangement(l), input_width(l));
        const MatrixView<Real> output = view(outputs_[l], arranged, x.rows, width(l));
        layers_[l]->forward(parameters, pass, input, output);
        input = output;
    }
    rearrange(layers_.size(), Arrangement::rows, outputs());
    return input;
}

template <class Real>
void Network<Real>::copy_activations(std::size_t layer, ShardOffsets shards, MatrixView<Real> out) const noexcept {
    const MatrixView<Real> activations = view(outputs_[layer], arrangement(layer), out.rows, out.cols);
    if (arrangement(layer) == Arrangement::rows) {
        std::ranges::copy(activations.values(), out.data);
    } else {
        deinterleave<Real>(activations, shards, out);
    }
}

template <class Real>
void Network<Real>::backward(std::span<const Real> parameters, ShardOffsets shards, MatrixView<const Real> x,
                             ShardGradients<Real>& gradients) {
    std::size_t current = 0; // the buffer that holds dy
    Arrangement arranged = Arrangement::rows;
    const auto rearrange = [&](Arrangement wanted, std::size_t columns) {
        if (arranged == wanted) {
            return;
        }
        const MatrixView<const Real> from = view(deltas_[current], arranged, x.rows, columns);
        const MatrixView<Real> to = view(deltas_[1 - current], wanted, x.rows, columns);
        wanted == Arrangement::rows ? deinterleave(from, shards, to) : interleave(from, shards, to);
        current = 1 - current;
        arranged = wanted;
    };
    for (std::size_t l = layers_.size(); l-- > 0;) {
        rearrange(arrangement(l), width(l));
        const MatrixView<Real> dy = view(deltas_[current], arranged, x.rows, width(l));
        const MatrixView<const Real> y = view(outputs_[l], arranged, x.rows, width(l));
        const bool same_arrangement = arranged == input_arrangement(l);
        MatrixView<const Real> input = x;
        if (!same_arrangement || l > 0) {
            input = view(same_arrangement ? outputs_[l - 1] : rearranged_[l], arranged, x.rows, input_width(l));
        }
        MatrixView<Real> dx;
        if (l > 0) {
            dx = view(deltas_[1 - current], arranged, x.rows, input_width(l));
        }
        layers_[l]->backward(parameters, arranged == Arrangement::rows ? shards : ShardOffsets(groups_), input, y, dy,
                             dx, gradients);
        current = 1 - current;
    }
}

template class Network<float>;
template class Network<double>;

} // namespace dtrain::nn
