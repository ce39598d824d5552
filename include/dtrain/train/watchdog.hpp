#pragma once

#include "dtrain/core/phase_timer.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/mpi/shared_window.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace dtrain::train {

/// Notices ranks of this node whose process died or was stopped. Each rank's watchdog, a thread of its own, keeps a
/// time in memory that the node shares and looks at the others'. The first rank still alive reports.
class Watchdog {
  public:
    /// Called on the watchdog's thread with a message that names rank, host, and the phase it was last seen in.
    using Report = std::function<void(const std::string& message)>;

    /// Collective. `timeout_seconds` 0 looks for dead ranks only.
    Watchdog(const mpi::Communicator& communicator, double timeout_seconds, Report report);
    /// Collective: a rank that has got here is not missed any more.
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    /// Not collective, and cheap: what this rank is about to do.
    void note(core::Phase phase, std::int64_t step) noexcept {
        own_->phase.store(static_cast<std::uint32_t>(phase), std::memory_order_relaxed);
        own_->step.store(step, std::memory_order_relaxed);
    }

  private:
    struct alignas(64) Entry {
        std::atomic<std::int64_t> alive_at; ///< CLOCK_MONOTONIC in ns, one clock for the whole node; 0: not watched
        std::atomic<std::int64_t> step;
        std::atomic<std::uint32_t> phase;
        std::atomic<std::int32_t> pid;
        std::atomic<std::int32_t> rank;      ///< in the communicator of the run
        std::atomic<std::int32_t> reporting; ///< 1: this rank is ending the job, and others are about to die of that
    };

    void run(const std::stop_token& stop);
    void look(std::int64_t now);
    [[nodiscard]] bool is_gone(const Entry& entry) const;
    [[nodiscard]] bool is_late(std::int64_t alive_at, std::int64_t now) const;
    [[nodiscard]] std::string message(const Entry& entry, bool gone) const;

    mpi::Communicator node_;
    mpi::SharedWindow window_;
    std::vector<Entry*> entries_;
    Entry* own_;
    std::int64_t timeout_ns_;
    std::string host_;
    Report report_;
    std::jthread thread_;
};

} // namespace dtrain::train
