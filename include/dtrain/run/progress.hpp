#pragma once

#include "dtrain/core/terminal.hpp"
#include "dtrain/model/evaluator.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dtrain::run {

/// Formats a duration: 75 -> "1:15", 3723 -> "1:02:03".
[[nodiscard]] std::string time_left(double seconds);

/// Formats a rate: 1234567 -> "1.23 M".
[[nodiscard]] std::string short_number(double value);

/// The results of a finished epoch.
struct EpochReport {
    std::int64_t epoch = 0;
    std::int64_t epochs = 0;
    double train_cost = 0;
    model::Score test;
    std::optional<model::Score> validation; ///< empty without a validation set
    double samples_per_second = 0;
    double seconds = 0;
    std::uint64_t fingerprint = 0;
};

/// Prints the progress of a run on standard output: one line per epoch, and on a terminal also a moving bar. Elsewhere
/// it prints no control characters. If silent (on every rank but 0), it prints nothing.
class Progress {
  public:
    explicit Progress(bool silent);

    void line(std::string_view text);
    /// Prints a warning on standard error.
    void warn(std::string_view text);

    void begin(std::int64_t steps, std::int64_t steps_per_epoch, std::int64_t first_step);
    /// To be called after each step. Cheap: redraws at most ten times a second.
    void step(std::int64_t step, double cost, std::int64_t samples, std::chrono::steady_clock::time_point now);
    void epoch(const EpochReport& report);
    /// Removes the bar.
    void end();

  private:
    void draw(std::int64_t step, std::chrono::steady_clock::time_point now);
    void clear();

    bool silent_;
    std::optional<core::Terminal> terminal_;
    bool drawn_ = false;
    std::int64_t steps_ = 0;
    std::int64_t steps_per_epoch_ = 1;
    std::int64_t first_step_ = 0;
    double smoothed_cost_ = 0;
    std::int64_t samples_ = 0;
    std::chrono::steady_clock::time_point begun_;
    std::chrono::steady_clock::time_point last_drawn_;
};

/// Shows how much of a task is done, as a line on standard error. Only on a terminal, after the first second, and only
/// until the task is done.
class WorkProgress {
  public:
    explicit WorkProgress(std::string_view work);
    ~WorkProgress();
    WorkProgress(const WorkProgress&) = delete;
    WorkProgress& operator=(const WorkProgress&) = delete;

    /// Cheap: redraws at most ten times a second.
    void update(std::size_t done, std::size_t all);

  private:
    std::string work_;
    bool terminal_;
    bool drawn_ = false;
    std::chrono::steady_clock::time_point next_;
};

} // namespace dtrain::run
