#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::optim {

/// What the schedules take from a config; each uses what it needs.
struct ScheduleSettings {
    double learning_rate = 0;
    std::int64_t steps_per_epoch = 1;
    std::int64_t epochs = 0;  ///< of the whole training
    double warmup_epochs = 0; ///< rounded to whole steps
    double decay_epochs = 1;  ///< over which the rate is multiplied by decay_factor; likewise, and at least one step
    double decay_factor = 1;
};

/// The learning rate, a function of the number of a step and of nothing else, so that it is the same on all ranks and
/// after a restart. Warm-up is linear: step i (from 0) of its W steps has (i + 1) / W of what the schedule says.
class Schedule {
  public:
    /// `name` is one of schedule_names().
    Schedule(std::string_view name, const ScheduleSettings& settings);

    /// In the step after `step` finished ones.
    [[nodiscard]] double rate(std::int64_t step) const;

  private:
    using Factor = double (*)(std::int64_t step, const ScheduleSettings&);
    ScheduleSettings settings_;
    Factor factor_;
    std::int64_t warmup_steps_;
};

[[nodiscard]] std::vector<std::string> schedule_names();

} // namespace dtrain::optim
