#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::optim {

/// The config values for optimizers. Not every optimizer uses all of them.
struct Settings {
    double momentum = 0;
    double weight_decay = 0;
};

/// The values of one training step.
struct Step {
    std::int64_t number = 0;   ///< counted from 0
    double learning_rate = 0;  ///< for the parameters of this call, rate_factor() included
    double gradient_scale = 1; ///< 1 / samples: turns the sum over the batch into a mean
};

/// Updates parameters from gradients, element by element, so that each rank can update its own slice of the flat
/// buffers. The formulas use g = gradient_scale · gradient + weight_decay · p. All optimizers except lars follow
/// PyTorch's definitions.
class Optimizer {
  public:
    virtual ~Optimizer() = default;

    /// The names of its state buffers, such as "momentum". Each has the size of the parameters and starts with zeros.
    [[nodiscard]] virtual std::vector<std::string> state_names() const = 0;

    /// Whether the learning rate of each weight tensor (two or more dimensions) is multiplied by rate_factor().
    [[nodiscard]] virtual bool needs_norms() const { return false; }
    /// A factor for the learning rate, from the Euclidean norms of the tensor and of its mean gradient. The gradient
    /// does not include weight decay.
    [[nodiscard]] virtual double rate_factor(double /*parameter_norm*/, double /*gradient_norm*/) const { return 1; }

    /// Updates `parameters` and `state` in place. `gradient` is the sum over the batch. `parameters`, `gradient` and
    /// each element of `state` are the same slice of their buffers. Returns whether every new parameter is finite.
    virtual bool update(std::span<float> parameters, std::span<const float> gradient,
                        std::span<const std::span<float>> state, const Step& step) const = 0;
};

[[nodiscard]] std::vector<std::string> optimizer_names();
/// `name` must be one of optimizer_names(); otherwise throws std::out_of_range.
[[nodiscard]] std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const Settings& settings);

} // namespace dtrain::optim
