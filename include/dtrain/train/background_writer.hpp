#pragma once

#include "dtrain/core/error.hpp"

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

namespace dtrain::train {

/// Runs one job at a time on a thread of its own, so that writing files goes on beside training. Jobs own what they
/// work on. After a job has thrown, no further job runs.
class BackgroundWriter {
  public:
    BackgroundWriter();
    /// Waits for the job in flight.
    ~BackgroundWriter();
    BackgroundWriter(const BackgroundWriter&) = delete;
    BackgroundWriter& operator=(const BackgroundWriter&) = delete;

    /// Waits for the job in flight, if any, then begins this one.
    void submit(std::function<void()> job);
    /// Waits until nothing is in flight. Throws what the last job threw.
    void wait();
    [[nodiscard]] bool failed() const;

  private:
    void run();

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::function<void()> job_;
    std::optional<core::Error> error_;
    bool busy_ = false;
    bool ending_ = false;
    std::thread thread_;
};

} // namespace dtrain::train
