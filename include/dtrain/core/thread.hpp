#pragma once

#include <csignal>
#include <ctime>
#include <thread>
#include <utility>

namespace dtrain::core {

/// Starts a thread that blocks signals, so that the training thread receives them. Signals that a fault raises are not
/// blocked, because blocking them is undefined behaviour. Throws std::system_error if the thread cannot be started.
template <class Action>
[[nodiscard]] std::jthread start_thread(Action&& action) {
    sigset_t blocked;
    sigset_t before;
    sigfillset(&blocked);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) {
        sigdelset(&blocked, fault);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    const struct Restore { // also where there is no thread
        const sigset_t& mask;
        ~Restore() { pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
    } restore{before};
    return std::jthread(std::forward<Action>(action));
}

/// CPU time of the calling thread so far, in seconds.
inline double thread_seconds() noexcept {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

} // namespace dtrain::core
