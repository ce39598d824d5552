#include "dtrain/optim/schedule.hpp"

#include "dtrain/core/registry.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dtrain::optim {
namespace {

double constant(std::int64_t, const ScheduleSettings&) {
    return 1;
}

/// The number of decay periods so far, as a fraction. A period is rounded to whole steps, so that the schedule `step`
/// decays at the expected step.
double decays(std::int64_t step, const ScheduleSettings& settings) {
    const double steps = std::round(settings.decay_epochs * static_cast<double>(settings.steps_per_epoch));
    return static_cast<double>(step) / std::max(steps, 1.0);
}

double steps_down(std::int64_t step, const ScheduleSettings& settings) {
    return std::pow(settings.decay_factor, std::floor(decays(step, settings)));
}

double exponential(std::int64_t step, const ScheduleSettings& settings) {
    return std::pow(settings.decay_factor, decays(step, settings));
}

/// From 1 to 0 over the whole training: Loshchilov and Hutter (ICLR 2017), without restarts.
double cosine(std::int64_t step, const ScheduleSettings& settings) {
    const auto steps = static_cast<double>(settings.epochs * settings.steps_per_epoch);
    return (1 + std::cos(std::numbers::pi * std::min(static_cast<double>(step) / steps, 1.0))) / 2;
}

using core::Named;
constexpr core::Registry schedules("schedule", {Named{"constant", constant}, Named{"step", steps_down},
                                                Named{"exponential", exponential}, Named{"cosine", cosine}});

} // namespace

std::vector<std::string> schedule_names() {
    return schedules.names();
}

Schedule::Schedule(std::string_view name, const ScheduleSettings& settings)
    : settings_(settings), factor_(schedules.at(name)),
      warmup_steps_(std::llround(settings.warmup_epochs * static_cast<double>(settings.steps_per_epoch))) {}

double Schedule::rate(std::int64_t step) const {
    const double rate = settings_.learning_rate * factor_(step, settings_);
    return step < warmup_steps_ ? rate * static_cast<double>(step + 1) / static_cast<double>(warmup_steps_) : rate;
}

} // namespace dtrain::optim
