#include "dtrain/optim/schedule.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <stdexcept>
#include <string>

namespace dtrain::optim {
namespace {

/// 20 epochs of 8 steps.
ScheduleSettings settings(double warmup_epochs = 0) {
    return {.learning_rate = 0.3,
            .steps_per_epoch = 8,
            .epochs = 20,
            .warmup_epochs = warmup_epochs,
            .decay_epochs = 2.5,
            .decay_factor = 0.5};
}

TEST(Schedule, ConstantKeepsTheRate) {
    const Schedule schedule("constant", settings());
    for (const std::int64_t step : {0, 1, 8, 159, 1000}) {
        EXPECT_EQ(schedule.rate(step), 0.3);
    }
}

TEST(Schedule, StepDecreasesAfterEveryDecayEpochs) {
    const Schedule schedule("step", settings());
    EXPECT_EQ(schedule.rate(0), 0.3);
    EXPECT_EQ(schedule.rate(19), 0.3); // 2.5 epochs are 20 steps
    EXPECT_DOUBLE_EQ(schedule.rate(20), 0.15);
    EXPECT_DOUBLE_EQ(schedule.rate(39), 0.15);
    EXPECT_DOUBLE_EQ(schedule.rate(40), 0.075);
    EXPECT_DOUBLE_EQ(schedule.rate(159), 0.3 / 128);
}

TEST(Schedule, ExponentialDecreasesByTheSameFactorButSmoothly) {
    const Schedule schedule("exponential", settings());
    EXPECT_EQ(schedule.rate(0), 0.3);
    EXPECT_DOUBLE_EQ(schedule.rate(10), 0.3 * std::sqrt(0.5));
    EXPECT_DOUBLE_EQ(schedule.rate(20), 0.15);
    EXPECT_DOUBLE_EQ(schedule.rate(60), 0.0375);
}

TEST(Schedule, CosineDecreasesToZeroOverTheTraining) {
    const Schedule schedule("cosine", settings());
    EXPECT_EQ(schedule.rate(0), 0.3);
    EXPECT_DOUBLE_EQ(schedule.rate(40), 0.15 * (1 + std::numbers::sqrt2 / 2));
    EXPECT_DOUBLE_EQ(schedule.rate(80), 0.15);
    EXPECT_GT(schedule.rate(159), 0);
    EXPECT_LT(schedule.rate(159), 1e-4);
    EXPECT_EQ(schedule.rate(160), 0);
    EXPECT_EQ(schedule.rate(240), 0) << "it does not rise again";
}

TEST(Schedule, WarmUpIsLinearForEverySchedule) {
    for (const std::string& name : schedule_names()) {
        const Schedule plain(name, settings());
        const Schedule warmed(name, settings(0.6)); // 4.8 steps: 5
        for (std::int64_t step = 0; step < 160; ++step) {
            const double part = step < 5 ? static_cast<double>(step + 1) / 5 : 1;
            EXPECT_DOUBLE_EQ(warmed.rate(step), part * plain.rate(step)) << name << ", step " << step;
        }
    }
}

TEST(Schedule, IsFoundByName) {
    EXPECT_THROW(Schedule("steps", settings()), std::out_of_range);
}

} // namespace
} // namespace dtrain::optim
