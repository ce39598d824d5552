// Batch normalisation (Ioffe and Szegedy 2015), with PyTorch's definitions. For each channel c, over the n values of
// that channel in the samples of one logical shard:
//
//   x̂ = (x − mean) / √(variance + ε)      y = f(weight[c] x̂ + bias[c])
//
// The statistics are those of a shard, so they depend neither on ranks nor on nodes, and need no communication. Hoffer
// et al. 2017 call this ghost batch normalisation. Evaluation uses running means and variances instead. These are
// tensors of role `statistic`: their "gradient" is the mean over shards, weighted by samples, of the difference between
// what a shard measured and the running value. A difference can be rounded (parallel.compression) without harm; a mean
// that is large compared with the deviation cannot. A shard with a single value per channel has no variance, so it
// measures nothing.
//
// A channel is a feature of a vector (N × C), or a feature map (interleaved blocks of C × H × W).
//
// ∂C/∂x = weight / √(variance + ε) · (dz − Σ dz / n − x̂ Σ (dz x̂) / n),  where dz = ∂C/∂z, z = weight x̂ + bias

#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/nn/activation.hpp"
#include "dtrain/nn/layer.hpp"

#include "layer_arguments.hpp"

#include <algorithm>
#include <cmath>

namespace dtrain::nn {
namespace {

using core::MatrixView;
using kernels::Columns;

constexpr double epsilon = 1e-5;

template <class Real>
class BatchNorm final : public Layer<Real> {
  public:
    BatchNorm(Activation activation, const LayerArguments& arguments)
        : Layer<Real>(arguments.label), shape_(arguments.input), channels_(shape_.front()),
          pixels_(element_count(shape_) / channels_), is_map_(shape_.size() == 3), activation_(activation),
          weight_(add(arguments, "weight", Role::parameter)), bias_(add(arguments, "bias", Role::parameter)),
          mean_(add(arguments, "running_mean", Role::statistic)),
          variance_(add(arguments, "running_var", Role::statistic)) {}

    [[nodiscard]] std::string description() const override {
        return fmt::format("batchnorm {}", to_string(activation_));
    }
    [[nodiscard]] const Shape& output_shape() const noexcept override { return shape_; }
    [[nodiscard]] bool ends_linear() const noexcept override { return activation_ == Activation::linear; }
    [[nodiscard]] bool mixes_samples() const noexcept override { return true; }
    [[nodiscard]] Arrangement arrangement() const noexcept override {
        return is_map_ ? Arrangement::interleaved : Arrangement::rows;
    }
    [[nodiscard]] double forward_flops() const noexcept override { return 0; } // only products are counted
    [[nodiscard]] std::size_t max_added_up() const noexcept override { return channels_; }

    void initialise(std::span<Real> parameters, std::uint64_t) const override {
        std::ranges::fill(weight_.in(parameters), Real{1});
        std::ranges::fill(bias_.in(parameters), Real{0});
        std::ranges::fill(mean_.in(parameters), Real{0});
        std::ranges::fill(variance_.in(parameters), Real{1});
    }

    void reserve(const Extent& extent, core::MemoryBook& book) override {
        book.grant(slots(), sums_, product_sums_);
        book.grant(slots(), centre_, inverse_deviation_, scale_, shift_, slope_);
        book.grant(extent.shards * channels_, means_, inverse_deviations_, mean_changes_, variance_changes_);
        book.grant(extent.shards * channels_, weight_gradients_, bias_gradients_);
        book.grant(extent.shards + 1, rows_, groups_);
    }

    void forward(std::span<const Real> parameters, const Pass& pass, MatrixView<const Real> x,
                 MatrixView<Real> y) override {
        std::ranges::copy(pass.shards, rows_.data());
        find_groups(pass.shards, groups_.values().first(pass.shards.size()));
        clear_lanes_without_sample(y, pass.shards.back());
        for (std::size_t shard = 0; shard + 1 < pass.shards.size(); ++shard) {
            const std::span<Real> mean = of_shard(means_, shard);
            const std::span<Real> inverse = of_shard(inverse_deviations_, shard);
            if (pass.training != nullptr) {
                measure(parameters, x, shard);
            } else {
                std::ranges::copy(mean_.in(parameters), mean.begin());
                std::ranges::transform(variance_.in(parameters), inverse.begin(), [](Real variance) {
                    // A cost surface may have negative ones.
                    return static_cast<Real>(1 / std::sqrt(std::max(static_cast<double>(variance), 0.0) + epsilon));
                });
            }
            set_slots(centre_, [&](std::size_t c) { return mean[c]; });
            set_slots(scale_, [&](std::size_t c) { return weight_.in(parameters)[c] * inverse[c]; });
            set_slots(shift_, [&](std::size_t c) { return bias_.in(parameters)[c]; });
            for_each_part(shard, [&](const Columns& part, std::size_t first, std::size_t slot) {
                normalisation().normalise(part, x.data + first, centre_.data() + slot, scale_.data() + slot,
                                          shift_.data() + slot, y.data + first);
            });
        }
        activate(activation_, y.values());
    }

    void backward(std::span<const Real> parameters, ShardOffsets shards, MatrixView<const Real> x,
                  MatrixView<const Real> y, MatrixView<Real> dy, MatrixView<Real> dx,
                  ShardGradients<Real>& gradients) override {
        multiply_by_derivative<Real>(activation_, y.values(), dy.values());
        if (!dx.is_null()) {
            clear_lanes_without_sample(dx, shards.back());
        }
        for (std::size_t shard = 0; shard + 1 < shards.size(); ++shard) {
            sum_products(x, dy, shard);
            if (!dx.is_null()) {
                compute_input_gradient(weight_.in(parameters), x, dy, dx, shard);
            }
        }
        for (const auto& [tensor, values] : {std::pair{&variance_, &variance_changes_},
                                             {&mean_, &mean_changes_},
                                             {&bias_, &bias_gradients_},
                                             {&weight_, &weight_gradients_}}) {
            gradients.add_up(tensor->offset, tensor->size,
                             [&, source = values](std::size_t shard, std::span<Real> out, bool) {
                                 std::ranges::copy(of_shard(*source, shard), out.begin());
                             });
        }
    }

  private:
    static Tensor add(const LayerArguments& arguments, const char* part, Role role) {
        return arguments.layout[arguments.layout.add(arguments.label, part, {arguments.input.front()}, role)];
    }

    /// Sums have a slot for each lane of a group, so that they can be added up in vectors.
    [[nodiscard]] std::size_t slots_of_channel() const noexcept { return is_map_ ? group_rows : 1; }
    [[nodiscard]] std::size_t slots() const noexcept { return channels_ * slots_of_channel(); }
    [[nodiscard]] std::span<Real> of_shard(const core::Buffer<Real>& values, std::size_t shard) const noexcept {
        return values.values().subspan(shard * channels_, channels_);
    }
    [[nodiscard]] std::size_t samples(std::size_t shard) const noexcept {
        return rows_.data()[shard + 1] - rows_.data()[shard];
    }

    [[nodiscard]] static const kernels::NormalisationKernels<Real>& normalisation() {
        return kernels::network_kernels<Real>().normalisation;
    }

    /// slots of channel c = value(c)
    template <class Value>
    void set_slots(core::Buffer<Real>& values, Value&& value) const noexcept {
        for (std::size_t c = 0; c < channels_; ++c) {
            std::fill_n(values.data() + c * slots_of_channel(), slots_of_channel(), value(c));
        }
    }

    /// If there are any: the samples of a batch often fill all lanes.
    void clear_lanes_without_sample(MatrixView<Real> values, std::size_t sample_count) const noexcept {
        if (is_map_ && values.rows * block_lanes<Real> != sample_count) {
            std::ranges::fill(values.values(), Real{0});
        }
    }

    /// Calls action(columns, first, slot) for all values of a shard: the columns begin with value `first` of the
    /// matrix, and their lanes with `slot`.
    template <class Action>
    void for_each_part(std::size_t shard, Action&& action) const {
        if (!is_map_) {
            const std::size_t first = rows_.data()[shard] * channels_;
            const std::size_t whole = channels_ / group_rows;
            action(Columns{whole, group_rows, samples(shard), channels_, group_rows}, first, std::size_t{0});
            if (const std::size_t rest = channels_ % group_rows; rest != 0) {
                action(Columns{1, 0, samples(shard), channels_, rest}, first + whole * group_rows, whole * group_rows);
            }
            return;
        }
        constexpr std::size_t lanes = block_lanes<Real>;
        std::size_t left = samples(shard);
        for (std::size_t group = groups_.data()[shard]; left > 0; ++group) {
            const std::size_t count = std::min(left, group_rows);
            const std::size_t first =
                group * group_rows / lanes * channels_ * pixels_ * lanes + group * group_rows % lanes;
            action(Columns{channels_, pixels_ * lanes, pixels_, lanes, count}, first, std::size_t{0});
            left -= count;
        }
    }

    /// The sum of the slots of a channel.
    [[nodiscard]] double sum_of(const core::Buffer<double>& sums, std::size_t channel) const noexcept {
        double sum = 0;
        for (std::size_t i = 0; i < slots_of_channel(); ++i) {
            sum += sums.data()[channel * slots_of_channel() + i];
        }
        return sum;
    }

    /// Mean and variance of a shard, in two passes.
    void measure(std::span<const Real> parameters, MatrixView<const Real> x, std::size_t shard) noexcept {
        const auto count = static_cast<double>(samples(shard) * pixels_);
        const std::span<Real> mean = of_shard(means_, shard);
        std::ranges::fill(sums_.values(), 0.0);
        for_each_part(shard, [&](const Columns& part, std::size_t first, std::size_t slot) {
            normalisation().add_values(part, x.data + first, sums_.data() + slot);
        });
        for (std::size_t c = 0; c < channels_; ++c) {
            mean[c] = static_cast<Real>(count == 0 ? 0 : sum_of(sums_, c) / count);
        }
        set_slots(centre_, [&](std::size_t c) { return mean[c]; });
        std::ranges::fill(sums_.values(), 0.0);
        for_each_part(shard, [&](const Columns& part, std::size_t first, std::size_t slot) {
            normalisation().add_squares(part, x.data + first, centre_.data() + slot, sums_.data() + slot);
        });
        const double weight = count > 1 ? static_cast<double>(samples(shard)) : 0;
        for (std::size_t c = 0; c < channels_; ++c) {
            const double squares = sum_of(sums_, c);
            const double variance = count == 0 ? 0 : squares / count;
            const double unbiased = count > 1 ? squares / (count - 1) : 0;
            const auto change = [&](const Tensor& running, double measured) {
                return static_cast<Real>(weight * (measured - static_cast<double>(running.in(parameters)[c])));
            };
            of_shard(inverse_deviations_, shard)[c] = static_cast<Real>(1 / std::sqrt(variance + epsilon));
            of_shard(mean_changes_, shard)[c] = change(mean_, static_cast<double>(mean[c]));
            of_shard(variance_changes_, shard)[c] = change(variance_, unbiased);
        }
    }

    /// The gradients of weight and bias for a shard: Σ dz x̂ and Σ dz.
    void sum_products(MatrixView<const Real> x, MatrixView<const Real> dz, std::size_t shard) noexcept {
        set_slots(centre_, [&](std::size_t c) { return of_shard(means_, shard)[c]; });
        set_slots(inverse_deviation_, [&](std::size_t c) { return of_shard(inverse_deviations_, shard)[c]; });
        std::ranges::fill(sums_.values(), 0.0);
        std::ranges::fill(product_sums_.values(), 0.0);
        for_each_part(shard, [&](const Columns& part, std::size_t first, std::size_t slot) {
            normalisation().add_gradients(part, x.data + first, dz.data + first, centre_.data() + slot,
                                          inverse_deviation_.data() + slot, sums_.data() + slot,
                                          product_sums_.data() + slot);
        });
        for (std::size_t c = 0; c < channels_; ++c) {
            of_shard(bias_gradients_, shard)[c] = static_cast<Real>(sum_of(sums_, c));
            of_shard(weight_gradients_, shard)[c] = static_cast<Real>(sum_of(product_sums_, c));
        }
    }

    /// After sum_products(), with its centre.
    void compute_input_gradient(std::span<const Real> weight, MatrixView<const Real> x, MatrixView<const Real> dz,
                                MatrixView<Real> dx, std::size_t shard) noexcept {
        const auto count = static_cast<Real>(std::max<std::size_t>(samples(shard) * pixels_, 1));
        const std::span<const Real> inverse = of_shard(inverse_deviations_, shard);
        set_slots(scale_, [&](std::size_t c) { return weight[c] * inverse[c]; });
        set_slots(shift_, [&](std::size_t c) { return of_shard(bias_gradients_, shard)[c] / count; });
        set_slots(slope_, [&](std::size_t c) { return inverse[c] * (of_shard(weight_gradients_, shard)[c] / count); });
        for_each_part(shard, [&](const Columns& part, std::size_t first, std::size_t slot) {
            normalisation().normalise_backward(part, x.data + first, dz.data + first, centre_.data() + slot,
                                               scale_.data() + slot, shift_.data() + slot, slope_.data() + slot,
                                               dx.data + first);
        });
    }

    Shape shape_;
    std::size_t channels_;
    std::size_t pixels_; ///< of a feature map; 1 for a vector
    bool is_map_;
    Activation activation_;
    Tensor weight_;
    Tensor bias_;
    Tensor mean_;
    Tensor variance_;
    // One value for each slot:
    core::Buffer<double> sums_;
    core::Buffer<double> product_sums_;
    core::Buffer<Real> centre_;            ///< the mean of the channel
    core::Buffer<Real> inverse_deviation_; ///< 1 / √(variance + ε)
    core::Buffer<Real> scale_;             ///< weight / √(variance + ε)
    core::Buffer<Real> shift_;             ///< forward the bias, backward the mean of dz
    core::Buffer<Real> slope_;             ///< the mean of dz x̂, divided by √(variance + ε)
    // Of each shard of the last forward pass, for each channel:
    core::Buffer<Real> means_;
    core::Buffer<Real> inverse_deviations_;
    core::Buffer<Real> mean_changes_;
    core::Buffer<Real> variance_changes_;
    core::Buffer<Real> weight_gradients_;
    core::Buffer<Real> bias_gradients_;
    core::Buffer<std::size_t> rows_;   ///< the rows of each shard
    core::Buffer<std::size_t> groups_; ///< the groups of each shard
};

} // namespace

template <class Real>
std::unique_ptr<Layer<Real>> make_batch_norm(const LayerArguments& arguments) {
    if (arguments.words.size() > 2) {
        arguments.fail("expected `batchnorm [activation]`");
    }
    if (arguments.input.size() != 1 && arguments.input.size() != 3) {
        arguments.fail(
            fmt::format("the input must be a vector or feature maps (channels x rows x columns), such as the "
                        "output of dense or conv, but its shape is {}",
                        to_string(arguments.input)));
    }
    arguments.require_size(arguments.input);
    const Activation activation =
        arguments.words.size() == 2 ? arguments.activation_in(arguments.words[1]) : Activation::linear;
    return std::make_unique<BatchNorm<Real>>(activation, arguments);
}

template std::unique_ptr<Layer<float>> make_batch_norm(const LayerArguments&);
template std::unique_ptr<Layer<double>> make_batch_norm(const LayerArguments&);

} // namespace dtrain::nn
