#include "dtrain/core/thread.hpp"

#include <gtest/gtest.h>

#include <csignal>

namespace dtrain::core {
namespace {

sigset_t blocked_here() {
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    return blocked;
}

TEST(StartThread, BlocksAllSignalsExceptItsOwnFaults) {
    sigset_t blocked{};
    start_thread([&] { blocked = blocked_here(); }).join();
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGALRM}) {
        EXPECT_TRUE(sigismember(&blocked, signal)) << signal;
    }
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
        EXPECT_FALSE(sigismember(&blocked, signal)) << signal;
    }
    const sigset_t own = blocked_here();
    EXPECT_FALSE(sigismember(&own, SIGTERM));
}

} // namespace
} // namespace dtrain::core
