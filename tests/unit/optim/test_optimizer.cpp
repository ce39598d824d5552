#include "dtrain/core/random.hpp"
#include "dtrain/optim/optimizer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::optim {
namespace {

constexpr std::size_t size = 37;
constexpr Settings settings{0.9, 0.01};
constexpr double learning_rate = 0.05;
constexpr double scale = 1.0 / 32;

std::vector<float> draw(std::uint64_t index, float magnitude = 1) {
    core::RandomStream random(4, core::Purpose::initialisation, 0, index);
    std::vector<float> values(size);
    for (float& value : values) {
        value = magnitude * static_cast<float>(2 * random.uniform() - 1);
    }
    return values;
}

/// Parameters and optimizer state, and the spans that an optimizer takes.
struct Arenas {
    std::vector<float> parameters = draw(0);
    std::vector<std::vector<float>> states;
    explicit Arenas(const Optimizer& optimizer) : states(optimizer.state_names().size(), std::vector<float>(size)) {}

    bool update(const Optimizer& optimizer, std::span<const float> gradient, std::int64_t number, std::size_t begin = 0,
                std::size_t end = size) {
        std::vector<std::span<float>> slices;
        for (auto& state : states) {
            slices.push_back(std::span(state).subspan(begin, end - begin));
        }
        return optimizer.update(std::span(parameters).subspan(begin, end - begin), gradient.subspan(begin, end - begin),
                                slices, {number, learning_rate, scale});
    }
};

/// torch.optim.SGD, as its documentation defines it, for one parameter in double.
class TorchSgd {
  public:
    TorchSgd(double parameter, double momentum, bool nesterov)
        : parameter_(parameter), momentum_(momentum), nesterov_(nesterov) {}
    void step(double gradient) {
        gradient += settings.weight_decay * parameter_;
        if (momentum_ != 0) {
            buffer_ = first_ ? gradient : momentum_ * buffer_ + gradient;
            gradient = nesterov_ ? gradient + momentum_ * buffer_ : buffer_;
        }
        parameter_ -= learning_rate * gradient;
        first_ = false;
    }
    [[nodiscard]] double parameter() const { return parameter_; }

  private:
    double parameter_;
    double momentum_;
    bool nesterov_;
    double buffer_ = 0;
    bool first_ = true;
};

/// torch.optim.Adam and AdamW, likewise.
class TorchAdam {
  public:
    TorchAdam(double parameter, bool decoupled) : parameter_(parameter), decoupled_(decoupled) {}
    void step(double gradient) {
        ++t_;
        if (decoupled_) {
            parameter_ -= learning_rate * settings.weight_decay * parameter_;
        } else {
            gradient += settings.weight_decay * parameter_;
        }
        mean_ = settings.momentum * mean_ + (1 - settings.momentum) * gradient;
        square_ = 0.999 * square_ + (1 - 0.999) * gradient * gradient;
        const double mean_hat = mean_ / (1 - std::pow(settings.momentum, t_));
        const double square_hat = square_ / (1 - std::pow(0.999, t_));
        parameter_ -= learning_rate * mean_hat / (std::sqrt(square_hat) + 1e-8);
    }
    [[nodiscard]] double parameter() const { return parameter_; }

  private:
    double parameter_;
    bool decoupled_;
    double mean_ = 0;
    double square_ = 0;
    int t_ = 0;
};

/// Momentum whose velocity contains the learning rate, which differs between tensors.
class ReferenceLars {
  public:
    explicit ReferenceLars(double parameter) : parameter_(parameter) {}
    void step(double gradient) {
        gradient += settings.weight_decay * parameter_;
        velocity_ = settings.momentum * velocity_ + learning_rate * gradient;
        parameter_ -= velocity_;
    }
    [[nodiscard]] double parameter() const { return parameter_; }

  private:
    double parameter_;
    double velocity_ = 0;
};

template <class Reference, class... Arguments>
void expect_like(std::string_view name, Arguments... arguments) {
    const auto optimizer = make_optimizer(name, settings);
    Arenas arenas(*optimizer);
    std::vector<Reference> references;
    for (const float parameter : arenas.parameters) {
        references.emplace_back(static_cast<double>(parameter), arguments...);
    }
    for (std::int64_t step = 0; step < 20; ++step) {
        const std::vector<float> gradient = draw(static_cast<std::uint64_t>(step) + 1, 32);
        EXPECT_TRUE(arenas.update(*optimizer, gradient, step));
        for (std::size_t i = 0; i < size; ++i) {
            references[i].step(static_cast<double>(gradient[i]) * scale);
            ASSERT_NEAR(static_cast<double>(arenas.parameters[i]), references[i].parameter(), 2e-6)
                << name << ", step " << step;
        }
    }
}

TEST(Optimizer, SgdFollowsItsDefinition) {
    expect_like<TorchSgd>("sgd", 0, false);
}

TEST(Optimizer, MomentumFollowsItsDefinition) {
    expect_like<TorchSgd>("momentum", settings.momentum, false);
}

TEST(Optimizer, NesterovFollowsItsDefinition) {
    expect_like<TorchSgd>("nesterov", settings.momentum, true);
}

TEST(Optimizer, AdamFollowsItsDefinition) {
    expect_like<TorchAdam>("adam", false);
}

TEST(Optimizer, AdamWFollowsItsDefinition) {
    expect_like<TorchAdam>("adamw", true);
}

TEST(Optimizer, LarsFollowsItsDefinition) {
    expect_like<ReferenceLars>("lars");
    const auto lars = make_optimizer("lars", settings);
    EXPECT_TRUE(lars->needs_norms());
    EXPECT_DOUBLE_EQ(lars->rate_factor(3, 2), 0.001 * 3 / (2 + 0.01 * 3));
    EXPECT_DOUBLE_EQ(lars->rate_factor(3, 0), 0.001 / 0.01);
    EXPECT_EQ(lars->rate_factor(0, 2), 1) << "a tensor of zeros must be able to change";
    EXPECT_EQ(make_optimizer("lars", {0.9, 0})->rate_factor(3, 0), 1);
}

TEST(Optimizer, UpdatesSlicesLikeAllParameters) {
    for (const std::string& name : optimizer_names()) {
        const auto optimizer = make_optimizer(name, settings);
        Arenas whole(*optimizer);
        Arenas sliced(*optimizer);
        for (std::int64_t step = 0; step < 5; ++step) {
            const std::vector<float> gradient = draw(static_cast<std::uint64_t>(step) + 1, 32);
            whole.update(*optimizer, gradient, step);
            for (const auto& [begin, end] :
                 {std::pair<std::size_t, std::size_t>{0, 1}, {1, 12}, {12, 12}, {12, size}}) {
                EXPECT_TRUE(sliced.update(*optimizer, gradient, step, begin, end));
            }
            EXPECT_EQ(sliced.parameters, whole.parameters) << name;
            EXPECT_EQ(sliced.states, whole.states) << name;
        }
    }
}

// The gaps between the tensors of an arena stay zero.
TEST(Optimizer, LeavesZerosZero) {
    for (const std::string& name : optimizer_names()) {
        const auto optimizer = make_optimizer(name, settings);
        Arenas arenas(*optimizer);
        std::ranges::fill(arenas.parameters, 0.0F);
        const std::vector<float> gradient(size);
        for (std::int64_t step = 0; step < 3; ++step) {
            EXPECT_TRUE(arenas.update(*optimizer, gradient, step));
        }
        EXPECT_EQ(arenas.parameters, std::vector<float>(size)) << name;
    }
}

TEST(Optimizer, DetectsEveryParameterThatIsNotFinite) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    for (const std::string& name : optimizer_names()) {
        const auto optimizer = make_optimizer(name, settings);
        for (const float bad : {infinity, -infinity, nan, -nan}) {
            for (std::size_t place = 0; place < size; ++place) {
                Arenas in_parameter(*optimizer);
                in_parameter.parameters[place] = bad;
                EXPECT_FALSE(in_parameter.update(*optimizer, draw(1), 0)) << name << ' ' << bad << " at " << place;
                Arenas in_gradient(*optimizer);
                std::vector<float> gradient = draw(1);
                gradient[place] = bad;
                EXPECT_FALSE(in_gradient.update(*optimizer, gradient, 0)) << name << ' ' << bad << " at " << place;
            }
        }
        Arenas large(*optimizer);
        large.parameters[3] = std::numeric_limits<float>::max() / 2;
        EXPECT_TRUE(large.update(*optimizer, draw(1), 0)) << name << ": a large value is finite";
    }
}

TEST(Optimizer, IsFoundByName) {
    EXPECT_TRUE(make_optimizer("sgd", {})->state_names().empty());
    EXPECT_EQ(make_optimizer("momentum", {})->state_names(), std::vector<std::string>{"momentum"});
    EXPECT_EQ(make_optimizer("nesterov", {})->state_names(), std::vector<std::string>{"momentum"});
    EXPECT_EQ(make_optimizer("adam", {})->state_names(), (std::vector<std::string>{"mean", "square"}));
    EXPECT_EQ(make_optimizer("adamw", {})->state_names(), (std::vector<std::string>{"mean", "square"}));
    EXPECT_EQ(make_optimizer("lars", {})->state_names(), std::vector<std::string>{"momentum"});
    EXPECT_THROW((void)make_optimizer("sdg", {}), std::out_of_range);
}

} // namespace
} // namespace dtrain::optim
