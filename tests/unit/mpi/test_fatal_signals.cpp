#include "dtrain/mpi/fatal_signals.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <string>

namespace dtrain::mpi {
namespace {

TEST(FatalSignals, EndTheProcessAsKillDoes) {
    for (const int signal : {SIGQUIT, SIGILL, SIGTRAP, SIGABRT}) {
        EXPECT_EXIT(
            {
                end_by_kill_on_fatal_signals("a process");
                end_by_kill_on_fatal_signals("rank 1 on here");
                std::raise(signal);
            },
            ::testing::KilledBySignal(SIGKILL),
            "^unit_tests: rank 1 on here: ended by signal " + std::to_string(signal) + ", [^\n]+\n$");
    }
}

TEST(FatalSignals, IncludeTheSignalOfAbort) {
    EXPECT_EXIT(
        {
            end_by_kill_on_fatal_signals("a process");
            std::abort();
        },
        ::testing::KilledBySignal(SIGKILL), "signal 6, abort");
}

} // namespace
} // namespace dtrain::mpi
