#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::optim {

/// The config values for schedules. Not every schedule uses all of them.
struct ScheduleSettings {
    double learning_rate = 0;
    std::int64_t steps_per_epoch = 1;
    std::int64_t epochs = 0;  ///< length of the whole training
    double warmup_epochs = 0; ///< rounded to whole steps
    double decay_epochs = 1;  ///< the rate is multiplied by decay_factor per decay_epochs; whole steps, at least one
    double decay_factor = 1;
};

/// The learning rate as a function of the step number only, so that it is the same on all ranks and after a restart.
/// Warm-up is linear: step i (from 0) of its W steps uses (i + 1) / W of the scheduled rate.
class Schedule {
  public:
    /// `name` must be one of schedule_names(); otherwise throws std::out_of_range.
    Schedule(std::string_view name, const ScheduleSettings& settings);

    /// The learning rate of step number `step`, counted from 0 over the whole training.
    [[nodiscard]] double rate(std::int64_t step) const;

  private:
    using Factor = double (*)(std::int64_t step, const ScheduleSettings&);
    ScheduleSettings settings_;
    Factor factor_;
    std::int64_t warmup_steps_;
};

[[nodiscard]] std::vector<std::string> schedule_names();

} // namespace dtrain::optim
