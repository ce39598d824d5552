#include "dtrain/optim/optimizer.hpp"

#include "dtrain/core/registry.hpp"
#include "dtrain/kernels/instruction_set.hpp"

#include <cmath>
#include <cstddef>

namespace dtrain::optim {
namespace {

/// The rules are kernels (kernels/table.hpp); an optimizer prepares their scalars.
class WithSettings : public Optimizer {
  public:
    explicit WithSettings(const Settings& settings) : settings_(settings) {}

  protected:
    /// What all rules have in common.
    [[nodiscard]] kernels::Update prepare(std::span<float> parameters, std::span<const float> gradient,
                                          std::span<const std::span<float>> state, const Step& step) const {
        kernels::Update update;
        update.parameters = parameters.data();
        update.sum = gradient.data();
        update.size = parameters.size();
        for (std::size_t i = 0; i < state.size(); ++i) {
            update.state[i] = state[i].data();
        }
        update.scale = static_cast<float>(step.gradient_scale);
        update.decay = static_cast<float>(settings_.weight_decay);
        update.rate = static_cast<float>(step.learning_rate);
        update.momentum = static_cast<float>(settings_.momentum);
        return update;
    }

    Settings settings_;
};

/// p ← p − η g
class Sgd final : public WithSettings {
  public:
    using WithSettings::WithSettings;
    [[nodiscard]] std::vector<std::string> state_names() const override { return {}; }
    bool update(std::span<float> parameters, std::span<const float> gradient, std::span<const std::span<float>> state,
                const Step& step) const override {
        return kernels::table().updates.sgd(prepare(parameters, gradient, state, step));
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
        const kernels::UpdateKernels& rules = kernels::table().updates;
        return (nesterov ? rules.nesterov : rules.momentum)(prepare(parameters, gradient, state, step));
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
        const double beta1 = settings_.momentum;
        const double t = static_cast<double>(step.number) + 1;
        kernels::Update update = prepare(parameters, gradient, state, step);
        update.keep_square = static_cast<float>(beta2);
        update.take_gradient = static_cast<float>(1 - beta1);
        update.take_square = static_cast<float>(1 - beta2);
        update.rate = static_cast<float>(step.learning_rate / (1 - std::pow(beta1, t)));
        update.root_scale = static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, t)));
        if (decoupled) {
            update.decay = 0;
            update.shrink = static_cast<float>(1 - step.learning_rate * settings_.weight_decay);
        }
        return kernels::table().updates.adam(update);
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
        return kernels::table().updates.lars(prepare(parameters, gradient, state, step));
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
