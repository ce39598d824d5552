#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::parallel {

/// Waits until `ready()` holds: spins for a moment, as the others usually are about to arrive, then gives the core
/// away each time round. With more ranks than cores it does that at once. Simulated ranks sleep instead.
class Waiter {
  public:
    explicit Waiter(bool oversubscribed) : spins_(oversubscribed ? 0 : 20000) {}

    template <class Ready>
    void operator()(Ready&& ready) const {
        for (int round = 0; !ready(); ++round) {
            rest(round);
        }
    }

    /// What the calling rank does when it looked for the `round`th time in vain.
    void rest(int round) const noexcept;

  private:
    int spins_;
};

/// Barrier of the ranks of a node over counters in their shared memory, one cache line each: a rank counts its own
/// arrivals and waits until every other has counted as many.
class NodeBarrier {
  public:
    struct alignas(64) Counter {
        std::atomic<std::uint64_t> arrivals;
    };
    static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

    /// counters[r] is in the segment of rank r and begins at zero.
    NodeBarrier(std::vector<Counter*> counters, int rank, Waiter waiter)
        : counters_(std::move(counters)), own_(counters_[static_cast<std::size_t>(rank)]), waiter_(waiter) {}

    /// What any rank wrote before is seen by every rank after.
    void arrive_and_wait() noexcept;

  private:
    std::vector<Counter*> counters_;
    Counter* own_;
    Waiter waiter_;
    std::uint64_t arrivals_ = 0;
};

} // namespace dtrain::parallel
