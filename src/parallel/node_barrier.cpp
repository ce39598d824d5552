#include "node_barrier.hpp"

#include <immintrin.h>
#include <sched.h>

namespace dtrain::parallel {

void Waiter::pause() noexcept {
    _mm_pause();
}

void Waiter::yield() noexcept {
    sched_yield();
}

void NodeBarrier::arrive_and_wait() noexcept {
    own_->arrivals.store(++arrivals_, std::memory_order_release);
    for (const Counter* counter : counters_) {
        waiter_([&] { return counter->arrivals.load(std::memory_order_acquire) >= arrivals_; });
    }
}

} // namespace dtrain::parallel
