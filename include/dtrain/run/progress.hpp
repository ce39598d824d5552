#pragma once

#include "dtrain/core/terminal.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dtrain::run {

/// What a finished epoch is told with.
struct EpochReport {
    std::int64_t epoch = 0;
    std::int64_t epochs = 0;
    double train_cost = 0;
    double test_cost = 0;
    double test_accuracy = 0;
    double samples_per_second = 0;
    double seconds = 0;
    std::uint64_t fingerprint = 0;
};

/// Tells the user on standard output how a run is going: a bar that moves on a terminal, one line per epoch elsewhere,
/// without control characters. A silent one (every rank but the first) says nothing.
class Progress {
  public:
    explicit Progress(bool silent);

    void line(std::string_view text);
    /// A warning, on standard error.
    void warn(std::string_view text);

    void begin(std::int64_t steps, std::int64_t steps_per_epoch, std::int64_t first_step);
    /// After each step, cheap: draws at most a few times a second.
    void step(std::int64_t step, double cost, std::int64_t samples, std::chrono::steady_clock::time_point now);
    void epoch(const EpochReport& report);
    /// Takes the bar off the screen.
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

/// How far a piece of work has come, as a line on standard error: on a terminal only, from its second second on, and
/// gone when it is done.
class WorkProgress {
  public:
    explicit WorkProgress(std::string_view work);
    ~WorkProgress();
    WorkProgress(const WorkProgress&) = delete;
    WorkProgress& operator=(const WorkProgress&) = delete;

    /// Cheap: draws at most a few times a second.
    void update(std::size_t done, std::size_t all);

  private:
    std::string work_;
    bool terminal_;
    bool drawn_ = false;
    std::chrono::steady_clock::time_point next_;
};

} // namespace dtrain::run
