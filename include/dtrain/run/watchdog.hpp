#pragma once

#include "dtrain/core/phase_timer.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/mpi/shared_window.hpp"

#include <atomic>
#include <cstdint>
#include <ctime>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace dtrain::run {

/// Detects ranks that died, were stopped, or whose training thread has stalled. Each rank has a watchdog thread. It
/// writes into memory shared by the node whether its process and its training thread make progress, and it reads the
/// entries of the other ranks. The first rank of the node whose watchdog still runs reports a problem, also its own.
///
/// A working rank makes progress while it uses CPU time, however long a step takes. A waiting rank uses CPU time too.
/// It is not reported while another rank of its node works. If all ranks of a node wait for too long, they wait for
/// another node, and the report can say no more. In Phase::write a rank may wait for the disk as long as its process
/// runs; ranks of other nodes that wait for this rank must be in that phase too.
class Watchdog final : public core::PhaseObserver {
  public:
    /// Called at most once, on the watchdog's thread. The message names rank, host, step and phase.
    using Report = std::function<void(const std::string& message)>;

    /// Collective, on the training thread. `ranks_per_node`: see Communicator::split_by_node. With `timeout_seconds` =
    /// 0 the watchdog detects only dead ranks.
    Watchdog(const mpi::Communicator& communicator, int ranks_per_node, double timeout_seconds, Report report);
    /// Collective. From here on the other ranks do not watch this rank.
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    /// Not collective, cheap: records which phase of which step this rank enters.
    void note(core::Phase phase, std::int64_t step) noexcept override {
        own_->phase.store(static_cast<std::uint32_t>(phase), std::memory_order_relaxed);
        own_->step.store(step, std::memory_order_relaxed);
    }

  private:
    /// Times are CLOCK_MONOTONIC in ns, one clock for the whole node. The training thread writes phase and step. The
    /// watchdog's thread writes the rest.
    struct alignas(64) Entry {
        std::atomic<std::int64_t> alive_at;  ///< when the watchdog's thread ran last
        std::atomic<std::int64_t> worked_at; ///< when the training thread was last seen to have used CPU time
        std::atomic<std::int64_t> moved_at;  ///< when it was last seen to have changed step, phase or wait
        std::atomic<std::int64_t> step;
        std::atomic<std::uint32_t> phase;
        std::atomic<std::int32_t> pid;
        std::atomic<std::int32_t> rank;      ///< in the communicator of the run
        std::atomic<std::int32_t> watched;   ///< 0: the rank has ended normally
        std::atomic<std::int32_t> waiting;   ///< 1: the training thread waits for other ranks
        std::atomic<std::int32_t> reporting; ///< 1: this rank is ending the job, and the others are about to die
    };
    /// What the watchdog's thread sees of the training thread.
    struct Sight {
        std::int64_t step;
        std::uint32_t phase;
        std::uint64_t waits; ///< mpi::Waiting::count()
        std::int64_t cpu_ns;
    };

    void find_other_nodes(const mpi::Communicator& communicator);
    void run(const std::stop_token& stop);
    [[nodiscard]] Sight sight() const;
    void look(std::int64_t now);
    [[nodiscard]] std::string finding(std::int64_t now) const;
    [[nodiscard]] bool is_late(std::int64_t since, std::int64_t now) const;
    [[nodiscard]] std::string no_progress() const;
    [[nodiscard]] static std::string last_seen(const Entry& entry);
    [[nodiscard]] std::string message(const std::vector<const Entry*>& ranks, const std::string& what) const;
    [[nodiscard]] std::string waiting_message(const Entry& entry) const;

    mpi::Communicator node_;
    mpi::SharedWindow window_;
    std::vector<Entry*> entries_;
    Entry* own_;
    clockid_t training_clock_;
    std::int64_t timeout_ns_;
    std::int64_t patience_ns_ = 0;   ///< how long after the timeout this node reports another node
    std::int64_t counting_from_ = 0; ///< when the watchdog's thread last continued after it was stopped
    std::string host_;
    std::string other_nodes_; ///< ranks and hosts of the other nodes; empty if there is only one node
    Report report_;
    std::jthread thread_;
};

} // namespace dtrain::run
