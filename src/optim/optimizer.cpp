#include "dtrain/optim/optimizer.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <stdexcept>

namespace dtrain::optim {
namespace {

/// Notices non-finite values by their exponent bits: an integer maximum vectorises where a float sum would not.
class FiniteCheck {
  public:
    void see(float value) noexcept { largest_ = std::max(largest_, std::bit_cast<std::uint32_t>(value) & 0x7fffffffU); }
    [[nodiscard]] bool all_finite() const noexcept { return largest_ < 0x7f800000U; }

  private:
    std::uint32_t largest_ = 0;
};

/// p ← p − η g
class Sgd final : public Optimizer {
  public:
    explicit Sgd(const Settings& settings) : weight_decay_(static_cast<float>(settings.weight_decay)) {}
    [[nodiscard]] std::vector<std::string> state_names() const override { return {}; }
    bool update(std::span<float> parameters, std::span<const float> gradient, std::span<const std::span<float>>,
                const Step& step) const override {
        const auto rate = static_cast<float>(step.learning_rate);
        const auto scale = static_cast<float>(step.gradient_scale);
        float* const p = parameters.data();
        const float* const sum = gradient.data();
        FiniteCheck check;
        for (std::size_t i = 0; i < parameters.size(); ++i) {
            const float g = scale * sum[i] + weight_decay_ * p[i];
            p[i] -= rate * g;
            check.see(p[i]);
        }
        return check.all_finite();
    }

  private:
    float weight_decay_;
};

/// v ← μ v + g;  p ← p − η v, or with Nesterov's look-ahead p ← p − η (g + μ v). Sutskever et al. (ICML 2013) in the
/// form of PyTorch, where the learning rate is outside v.
template <bool nesterov>
class Momentum final : public Optimizer {
  public:
    explicit Momentum(const Settings& settings)
        : momentum_(static_cast<float>(settings.momentum)), weight_decay_(static_cast<float>(settings.weight_decay)) {}
    [[nodiscard]] std::vector<std::string> state_names() const override { return {"momentum"}; }
    bool update(std::span<float> parameters, std::span<const float> gradient, std::span<const std::span<float>> state,
                const Step& step) const override {
        const auto rate = static_cast<float>(step.learning_rate);
        const auto scale = static_cast<float>(step.gradient_scale);
        float* const p = parameters.data();
        float* const v = state[0].data();
        const float* const sum = gradient.data();
        FiniteCheck check;
        for (std::size_t i = 0; i < parameters.size(); ++i) {
            const float g = scale * sum[i] + weight_decay_ * p[i];
            v[i] = momentum_ * v[i] + g;
            p[i] -= rate * (nesterov ? g + momentum_ * v[i] : v[i]);
            check.see(p[i]);
        }
        return check.all_finite();
    }

  private:
    float momentum_;
    float weight_decay_;
};

template <class T>
std::unique_ptr<Optimizer> make(const Settings& settings) {
    return std::make_unique<T>(settings);
}

struct Named {
    std::string_view name;
    std::unique_ptr<Optimizer> (*make)(const Settings&);
};
constexpr std::array optimizers{Named{"sgd", make<Sgd>}, Named{"momentum", make<Momentum<false>>},
                                Named{"nesterov", make<Momentum<true>>}};

} // namespace

std::vector<std::string> optimizer_names() {
    std::vector<std::string> names;
    for (const Named& known : optimizers) {
        names.emplace_back(known.name);
    }
    return names;
}

std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const Settings& settings) {
    const auto found = std::ranges::find(optimizers, name, &Named::name);
    if (found == optimizers.end()) {
        throw std::out_of_range("no optimizer " + std::string(name));
    }
    return found->make(settings);
}

} // namespace dtrain::optim
