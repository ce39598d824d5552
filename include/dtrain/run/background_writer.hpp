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

/// Runs jobs one at a time on its own thread, so that files are written while training continues. Jobs own their data.
/// They wait in lanes, in order; the lanes take turns. submit() never waits for the disk: if jobs arrive faster than
/// they finish, the oldest pending ones are dropped. After a job has thrown, no further job runs.
class BackgroundWriter {
  public:
    enum class Lane : std::size_t { log, checkpoint, best };

    BackgroundWriter();
    /// Waits for all jobs that were submitted and not dropped.
    ~BackgroundWriter();
    BackgroundWriter(const BackgroundWriter&) = delete;
    BackgroundWriter& operator=(const BackgroundWriter&) = delete;

    /// Adds a job. If more than `max_waiting` (at least 1) jobs of the lane are pending then, drops the oldest ones.
    /// Returns the number of dropped jobs.
    std::size_t submit(Lane lane, std::function<void()> job, std::size_t max_waiting);
    /// Waits until no job is pending or running. Throws the exception of a failed job.
    void wait();
    [[nodiscard]] bool failed() const;
    /// CPU seconds of the lane's finished jobs.
    [[nodiscard]] double seconds(Lane lane) const;

  private:
    void run();
    [[nodiscard]] bool none_waiting() const;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::array<std::deque<std::function<void()>>, 3> waiting_; ///< by lane, oldest first
    std::array<double, 3> seconds_{};
    std::exception_ptr error_; ///< exception of a failed job
    bool busy_ = false;
    bool ending_ = false;
    std::jthread thread_;
};

} // namespace dtrain::run
