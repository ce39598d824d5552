#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace dtrain::run {

/// Runs one job at a time on a thread of its own, so that writing files goes on beside training. Jobs own what they
/// work on. They wait in lanes, which take turns, each lane in its order. Whoever submits a job never waits for the
/// disk: where jobs come faster than they are done, the oldest of those that have not begun give way. After a job has
/// thrown, no further job runs.
class BackgroundWriter {
  public:
    enum class Lane : std::size_t { log, checkpoint };

    BackgroundWriter();
    /// Waits for all jobs that were submitted and did not give way.
    ~BackgroundWriter();
    BackgroundWriter(const BackgroundWriter&) = delete;
    BackgroundWriter& operator=(const BackgroundWriter&) = delete;

    /// At most `max_waiting` jobs of the lane, at least 1, wait for their turn, this one always among them. Returns
    /// how many gave way.
    std::size_t submit(Lane lane, std::function<void()> job, std::size_t max_waiting);
    /// Waits until nothing is waiting or in flight. Throws what a job threw.
    void wait();
    [[nodiscard]] bool failed() const;
    /// CPU time of the lane's jobs that are done.
    [[nodiscard]] double seconds(Lane lane) const;

  private:
    void run();
    [[nodiscard]] bool none_waiting() const;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::array<std::deque<std::function<void()>>, 2> waiting_; ///< by lane, oldest first
    std::array<double, 2> seconds_{};
    std::exception_ptr error_; ///< what a job threw
    bool busy_ = false;
    bool ending_ = false;
    std::jthread thread_;
};

} // namespace dtrain::run
