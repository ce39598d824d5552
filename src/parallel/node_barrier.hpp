#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::parallel {

/// Waits until `ready()` returns true. It spins for a moment, because the other ranks usually arrive soon, and then
/// yields the core in each round. With more ranks than cores, it yields at once. Simulated ranks sleep instead.
class Waiter {
  public:
    explicit Waiter(bool oversubscribed) : spins_(oversubscribed ? 0 : 20000) {}

    template <class Ready>
    void operator()(Ready&& ready) const {
        for (int round = 0; !ready(); ++round) {
            rest(round);
        }
    }

    /// Pauses once. `round` counts the calls since the wait began.
    void rest(int round) const noexcept;

  private:
    int spins_;
};

/// A barrier for the ranks of a node. Each rank has a counter in shared memory, in its own cache line. A rank
/// increments its counter and waits until the counters of all other ranks are at least as large.
class NodeBarrier {
  public:
    struct alignas(64) Counter {
        std::atomic<std::uint64_t> arrivals;
    };
    static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

    /// counters[r] is in the shared memory segment of rank r and must start at zero.
    NodeBarrier(std::vector<Counter*> counters, int rank, Waiter waiter)
        : counters_(std::move(counters)), own_(counters_[static_cast<std::size_t>(rank)]), waiter_(waiter) {}

    /// Collective over the ranks of the node. Writes before the call are visible to all ranks after the call.
    void arrive_and_wait() noexcept;

  private:
    std::vector<Counter*> counters_;
    Counter* own_;
    Waiter waiter_;
    std::uint64_t arrivals_ = 0;
};

} // namespace dtrain::parallel
