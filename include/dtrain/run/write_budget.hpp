#pragma once

#include <chrono>

namespace dtrain::run {

/// Decides whether a due file of one kind is written now or later. The cost of a file grows with the run. The budget is
/// half a second plus 1/40 of the run's time, for all files. No file is delayed by more than `longest_wait`.
class WriteBudget {
  public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds longest_wait{10};

    explicit WriteBudget(Clock::time_point begin) : begin_(begin), last_(begin) {}

    /// `background_seconds`: CPU time that the writer thread has spent on such files so far.
    [[nodiscard]] bool allows(Clock::time_point now, double background_seconds) const {
        const std::chrono::duration<double> elapsed = now - begin_;
        return now - last_ >= longest_wait || training_seconds_ + background_seconds <= 0.5 + elapsed.count() / 40;
    }

    /// Records that a file was submitted at `now`, which cost the training thread `training_seconds`.
    void wrote(Clock::time_point now, double training_seconds) {
        last_ = now;
        training_seconds_ += training_seconds;
    }

  private:
    Clock::time_point begin_;
    Clock::time_point last_;
    double training_seconds_ = 0;
};

} // namespace dtrain::run
