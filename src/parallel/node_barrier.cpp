#include "node_barrier.hpp"

#include <sched.h>
#include <time.h>

#include <cmath>

namespace dtrain::parallel {

#ifdef DTRAIN_SIMULATE
void Waiter::rest(int round) const noexcept {
    // In a simulation, the time advances and ranks switch only when they sleep or communicate. The naps start at one
    // microsecond and grow by 5 %. This keeps their number small, and a wait is at most about 5 % too long.
    const auto nanoseconds = static_cast<std::int64_t>(1000 * std::pow(1.05, round));
    const timespec nap{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
    nanosleep(&nap, nullptr);
}
#else
void Waiter::rest(int round) const noexcept {
    if (round < spins_) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    } else {
        sched_yield();
    }
}
#endif

void NodeBarrier::arrive_and_wait() noexcept {
    own_->arrivals.store(++arrivals_, std::memory_order_release);
    for (const Counter* counter : counters_) {
        waiter_([&] { return counter->arrivals.load(std::memory_order_acquire) >= arrivals_; });
    }
}

} // namespace dtrain::parallel
