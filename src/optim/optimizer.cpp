#include "dtrain/optim/optimizer.hpp"

#include "dtrain/core/registry.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

namespace dtrain::optim {
namespace {

/// Detects non-finite values by their exponent bits. The compiler vectorises an integer maximum, but not a float sum.
class FiniteCheck {
  public:
    void add(float value) noexcept { largest_ = std::max(largest_, std::bit_cast<std::uint32_t>(value) & 0x7fffffffU); }
    [[nodiscard]] bool all_finite() const noexcept { return largest_ < 0x7f800000U; }

  private:
    std::uint32_t largest_ = 0;
};

/// Replaces every parameter p by rule(i, p, g), where i is its index and g = scale · sum + weight_decay · p its
/// gradient. Returns whether all new parameters are finite. Fused operations are written as std::fma. Otherwise the
/// compiler could fuse differently in the vectorised part of a loop and in its remainder, and bits would depend on
/// where a slice begins.
template <class Rule>
bool update_each(std::span<float> parameters, std::span<const float> gradient, double gradient_scale,
                 double weight_decay, Rule&& rule) {
    const auto scale = static_cast<float>(gradient_scale);
    const auto decay = static_cast<float>(weight_decay);
    float* const p = parameters.data();
    const float* const sum = gradient.data();
    FiniteCheck check;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        p[i] = rule(i, p[i], std::fma(scale, sum[i], decay * p[i]));
        check.add(p[i]);
    }
    return check.all_finite();
}

class WithSettings : public Optimizer {
  public:
    explicit WithSettings(const Settings& settings) : settings_(settings) {}

  protected:
    Settings settings_;
};

/// p ← p − η g
class Sgd final : public WithSettings {
  public:
    using WithSettings::WithSettings;
    [[nodiscard]] std::vector<std::string> state_names() const override { return {}; }
    bool update(std::span<float> parameters, std::span<const float> gradient, std::span<const std::span<float>>,
                const Step& step) const override {
        const auto rate = static_cast<float>(step.learning_rate);
        return update_each(parameters, gradient, step.gradient_scale, settings_.weight_decay,
                           [=](std::size_t, float p, float g) { return std::fma(-rate, g, p); });
    }
};

/// v ← μ v + g;  p ← p − η v, or with Nesterov's look-ahead p ← p − η (g + μ v). Sutskever et al. (ICML 2013), in the
/// form that PyTorch uses: v does not include the learning rate.
template <bool nesterov>
class Momentum final : public WithSettings {
  public:
    using WithSettings::WithSettings;
    [[nodiscard]] std::vector<std::string> state_names() const override { return {"momentum"}; }
    bool update(std::span<float> parameters, std::span<const float> gradient, std::span<const std::span<float>> state,
                const Step& step) const override {
        const auto rate = static_cast<float>(step.learning_rate);
        const auto momentum = static_cast<float>(settings_.momentum);
        float* const v = state[0].data();
        return update_each(parameters, gradient, step.gradient_scale, settings_.weight_decay,
                           [=](std::size_t i, float p, float g) {
                               v[i] = std::fma(momentum, v[i], g);
                               return std::fma(-rate, nesterov ? std::fma(momentum, v[i], g) : v[i], p);
                           });
    }
};

/// m ← β₁ m + (1 − β₁) g;  s ← β₂ s + (1 − β₂) g²;  p ← p − η m̂ / (√ŝ + ε) with m̂ = m / (1 − β₁ᵗ), ŝ = s / (1 − β₂ᵗ)
/// in step t, counted from 1: Kingma and Ba (ICLR 2015). If `decoupled`, g does not include weight decay; instead
/// p ← (1 − η λ) p comes first: Loshchilov and Hutter (ICLR 2019). β₂ and ε are PyTorch's defaults.
template <bool decoupled>
class Adam final : public WithSettings {
  public:
    using WithSettings::WithSettings;
    [[nodiscard]] std::vector<std::string> state_names() const override { return {"mean", "square"}; }
    bool update(std::span<float> parameters, std::span<const float> gradient, std::span<const std::span<float>> state,
                const Step& step) const override {
        constexpr double beta2 = 0.999;
        constexpr float epsilon = 1e-8F;
        const double beta1 = settings_.momentum;
        const double t = static_cast<double>(step.number) + 1;
        const auto keep1 = static_cast<float>(beta1);
        const auto keep2 = static_cast<float>(beta2);
        const auto take1 = static_cast<float>(1 - beta1);
        const auto take2 = static_cast<float>(1 - beta2);
        const auto rate = static_cast<float>(step.learning_rate / (1 - std::pow(beta1, t)));
        const auto root_scale = static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, t)));
        const auto shrink = static_cast<float>(decoupled ? 1 - step.learning_rate * settings_.weight_decay : 1);
        float* const mean = state[0].data();
        float* const square = state[1].data();
        return update_each(parameters, gradient, step.gradient_scale, decoupled ? 0 : settings_.weight_decay,
                           [=](std::size_t i, float p, float g) {
                               mean[i] = std::fma(keep1, mean[i], take1 * g);
                               square[i] = std::fma(keep2, square[i], take2 * g * g);
                               const float root = std::fma(std::sqrt(square[i]), root_scale, epsilon);
                               return std::fma(-rate, mean[i] / root, shrink * p);
                           });
    }
};

/// v ← μ v + η g;  p ← p − v. Each tensor has its own η: the learning rate times 0.001 ‖p‖ / (‖∇‖ + λ ‖p‖), where ∇ is
/// the gradient without weight decay. You, Gitman and Ginsburg (2017), algorithm 1.
class Lars final : public WithSettings {
  public:
    using WithSettings::WithSettings;
    [[nodiscard]] std::vector<std::string> state_names() const override { return {"momentum"}; }
    [[nodiscard]] bool needs_norms() const override { return true; }
    [[nodiscard]] double rate_factor(double parameter_norm, double gradient_norm) const override {
        constexpr double trust = 0.001;
        const double divisor = gradient_norm + settings_.weight_decay * parameter_norm;
        // With the factor 0, a tensor of zeros would never change.
        return parameter_norm > 0 && divisor > 0 ? trust * parameter_norm / divisor : 1;
    }
    bool update(std::span<float> parameters, std::span<const float> gradient, std::span<const std::span<float>> state,
                const Step& step) const override {
        const auto rate = static_cast<float>(step.learning_rate);
        const auto momentum = static_cast<float>(settings_.momentum);
        float* const v = state[0].data();
        return update_each(parameters, gradient, step.gradient_scale, settings_.weight_decay,
                           [=](std::size_t i, float p, float g) {
                               v[i] = std::fma(momentum, v[i], rate * g);
                               return p - v[i];
                           });
    }
};

template <class T>
std::unique_ptr<Optimizer> make(const Settings& settings) {
    return std::make_unique<T>(settings);
}

using core::Named;
constexpr core::Registry optimizers("optimizer",
                                    {Named{"sgd", make<Sgd>}, Named{"momentum", make<Momentum<false>>},
                                     Named{"nesterov", make<Momentum<true>>}, Named{"adam", make<Adam<false>>},
                                     Named{"adamw", make<Adam<true>>}, Named{"lars", make<Lars>}});

} // namespace

std::vector<std::string> optimizer_names() {
    return optimizers.names();
}

std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const Settings& settings) {
    return optimizers.at(name)(settings);
}

} // namespace dtrain::optim
