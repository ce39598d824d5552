#pragma once

#include <chrono>

namespace dtrain::run {

/// Decides whether files of one kind that have come due are written or put off, so that what they cost, which grows
/// with the run, keeps to half a second and a fortieth of the run's time. Longer than `longest_wait` none is put off.
class WriteBudget {
  public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds longest_wait{10};

    explicit WriteBudget(Clock::time_point begin) : begin_(begin), last_(begin) {}

    /// `background_seconds`: what the thread that writes has spent on such files so far.
    [[nodiscard]] bool allows(Clock::time_point now, double background_seconds) const {
        const std::chrono::duration<double> elapsed = now - begin_;
        return now - last_ >= longest_wait || training_seconds_ + background_seconds <= 0.5 + elapsed.count() / 40;
    }

    /// A file was handed over at `now`, for which the thread that trains has spent so much.
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
