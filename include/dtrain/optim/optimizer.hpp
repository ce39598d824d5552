#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::optim {

/// What the optimizers take from a config; each uses what it needs.
struct Settings {
    double momentum = 0;
    double weight_decay = 0;
};

/// One descent step as the optimizers see it.
struct Step {
    std::int64_t number = 0;   ///< from 0
    double learning_rate = 0;  ///< of the parameters at hand
    double gradient_scale = 1; ///< turns the sum over the batch into a mean: 1 / samples
};

/// Updates parameters from gradients, element by element, so that any slice of the arenas can be updated by whoever
/// owns it. With g = scale · gradient + weight_decay · p; all but lars are defined as in PyTorch.
class Optimizer {
  public:
    virtual ~Optimizer() = default;

    /// Names of the arenas of state it keeps, such as "momentum"; all begin as zeros.
    [[nodiscard]] virtual std::vector<std::string> state_names() const = 0;

    /// Whether the learning rate of a weight tensor, one of two dimensions or more, is multiplied by rate_factor().
    [[nodiscard]] virtual bool wants_norms() const { return false; }
    /// From the Euclidean norms of the tensor and of its mean gradient, weight decay left out.
    [[nodiscard]] virtual double rate_factor(double /*parameter_norm*/, double /*gradient_norm*/) const { return 1; }

    /// `parameters`, `gradient` and each of `state` are the same slice of their arenas. Returns whether every new
    /// parameter is finite.
    virtual bool update(std::span<float> parameters, std::span<const float> gradient,
                        std::span<const std::span<float>> state, const Step& step) const = 0;
};

[[nodiscard]] std::vector<std::string> optimizer_names();
/// `name` is one of optimizer_names().
[[nodiscard]] std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const Settings& settings);

} // namespace dtrain::optim
