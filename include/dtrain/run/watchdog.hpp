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

/// Notices ranks that died, were stopped, or whose training thread has come to a halt. Each rank's watchdog, a thread
/// of its own, tells in memory that the node shares whether its process and its training thread make progress, and
/// looks at what the others tell. The first rank of the node whose watchdog still runs reports, itself included.
///
/// A rank that works makes progress while it uses CPU time, however long a step takes. A rank that waits for others,
/// which uses CPU time too, is to blame for nothing while one of its node works. When all ranks of a node wait for the
/// same too long, what they wait for is on another node, of which this one can tell no more. In Phase::write a rank may
/// wait for the disk while its process runs; ranks of other nodes that wait for it have to be in that phase too.
class Watchdog final : public core::PhaseObserver {
  public:
    /// Called once, on the watchdog's thread, with a message that names rank, host, and the phase it was last seen in.
    using Report = std::function<void(const std::string& message)>;

    /// Collective, on the thread that trains. `ranks_per_node` as Communicator::split_by_node has it; `timeout_seconds`
    /// 0 looks for dead ranks only.
    Watchdog(const mpi::Communicator& communicator, int ranks_per_node, double timeout_seconds, Report report);
    /// Collective: a rank that has got here is not missed any more.
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    /// Not collective, and cheap: what this rank is about to do.
    void note(core::Phase phase, std::int64_t step) noexcept override {
        own_->phase.store(static_cast<std::uint32_t>(phase), std::memory_order_relaxed);
        own_->step.store(step, std::memory_order_relaxed);
    }

  private:
    /// Times are CLOCK_MONOTONIC in ns, one clock for the whole node. The training thread writes phase and step, the
    /// watchdog's thread the rest.
    struct alignas(64) Entry {
        std::atomic<std::int64_t> alive_at;  ///< when the watchdog's thread ran last
        std::atomic<std::int64_t> worked_at; ///< when the training thread was last seen to have used CPU time
        std::atomic<std::int64_t> moved_at;  ///< when it was last seen to have begun something else
        std::atomic<std::int64_t> step;
        std::atomic<std::uint32_t> phase;
        std::atomic<std::int32_t> pid;
        std::atomic<std::int32_t> rank;      ///< in the communicator of the run
        std::atomic<std::int32_t> watched;   ///< 0: has come to its end in good order
        std::atomic<std::int32_t> waiting;   ///< 1: the training thread waits for other ranks
        std::atomic<std::int32_t> reporting; ///< 1: this rank is ending the job, and others are about to die of that
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
    [[nodiscard]] std::string stood_still() const;
    [[nodiscard]] static std::string last_seen(const Entry& entry);
    [[nodiscard]] std::string message(const std::vector<const Entry*>& ranks, const std::string& what) const;
    [[nodiscard]] std::string waiting_message(const Entry& entry) const;

    mpi::Communicator node_;
    mpi::SharedWindow window_;
    std::vector<Entry*> entries_;
    Entry* own_;
    clockid_t training_clock_;
    std::int64_t timeout_ns_;
    std::int64_t patience_ns_ = 0;   ///< beyond the timeout, before this node blames another
    std::int64_t counting_from_ = 0; ///< when the watchdog's thread was last continued after standing still
    std::string host_;
    std::string other_nodes_; ///< their ranks and hosts; empty where there is one node
    Report report_;
    std::jthread thread_;
};

} // namespace dtrain::run
