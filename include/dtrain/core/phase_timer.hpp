#pragma once

#include <time.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace dtrain::core {

/// The phases of a training step in their order, then the phases between steps.
enum class Phase : std::size_t { data, forward, backward, wait, reduce, update, write, other };
inline constexpr std::size_t phase_count = 8;

#ifdef DTRAIN_SIMULATE
/// The time of the simulated cluster. SMPI replaces clock_gettime, but not std::chrono.
struct SteadyClock {
    using time_point = std::chrono::steady_clock::time_point;
    static time_point now() noexcept {
        timespec time{};
        clock_gettime(CLOCK_MONOTONIC, &time);
        return time_point(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
    }
};
#else
using SteadyClock = std::chrono::steady_clock;
#endif

/// Receives a notice whenever a rank enters a phase.
class PhaseObserver {
  public:
    /// Implementations must be fast, because every step calls it several times.
    virtual void note(Phase phase, std::int64_t step) noexcept = 0;

  protected:
    ~PhaseObserver() = default;
};

/// Splits wall-clock time into phases. The time between two calls of `enter` belongs to the phase of the first call.
class PhaseTimer {
  public:
    using Clock = SteadyClock;

    /// Begins `phase` of step number `step`.
    void enter(Phase phase, std::int64_t step) noexcept {
        const Clock::time_point now = Clock::now();
        seconds_[static_cast<std::size_t>(current_)] += std::chrono::duration<double>(now - since_).count();
        since_ = now;
        current_ = phase;
        if (observer_ != nullptr) {
            observer_->note(phase, step);
        }
    }
    [[nodiscard]] double seconds(Phase phase) const noexcept { return seconds_[static_cast<std::size_t>(phase)]; }
    [[nodiscard]] Clock::time_point now() const noexcept { return since_; } ///< when the current phase was entered
    void reset() noexcept { seconds_.fill(0); }

    /// `observer` is notified of every phase from now on, or nobody if it is null. It must outlive the calls of
    /// `enter`.
    void set_observer(PhaseObserver* observer) noexcept { observer_ = observer; }

  private:
    std::array<double, phase_count> seconds_{};
    Phase current_ = Phase::other;
    Clock::time_point since_ = Clock::now();
    PhaseObserver* observer_ = nullptr;
};

} // namespace dtrain::core
