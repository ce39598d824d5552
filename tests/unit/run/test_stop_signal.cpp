#include "dtrain/run/stop_signal.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

namespace dtrain::run {
namespace {

// Signal handlers change a process permanently, so each of these tests runs in its own process.

constexpr int yes = 10;
constexpr int no = 11;

[[noreturn]] void exit_with_request() {
    std::_Exit(StopSignal::requested() ? yes : no);
}

TEST(StopSignalTest, IsNotRequestedAtFirst) {
    EXPECT_EXIT(
        {
            const StopSignal stop;
            exit_with_request();
        },
        ::testing::ExitedWithCode(no), "");
}

TEST(StopSignalTest, IsRequestedByEachOfFourSignals) {
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) {
        EXPECT_EXIT(
            {
                const StopSignal stop;
                std::raise(signal);
                exit_with_request();
            },
            ::testing::ExitedWithCode(yes), "")
            << signal;
    }
}

TEST(StopSignalTest, ToleratesRepetitionsOfTerm) {
    EXPECT_EXIT(
        {
            const StopSignal stop;
            std::raise(SIGTERM);
            std::raise(SIGTERM);
            std::raise(SIGUSR1);
            exit_with_request();
        },
        ::testing::ExitedWithCode(yes), "");
}

TEST(StopSignalTest, IgnoresHangUpUnderNohup) {
    EXPECT_EXIT(
        {
            std::signal(SIGHUP, SIG_IGN);
            const StopSignal stop;
            std::raise(SIGHUP);
            exit_with_request();
        },
        ::testing::ExitedWithCode(no), "");
}

TEST(StopSignalTest, ASecondInterruptEndsTheProcess) {
    EXPECT_EXIT(
        {
            const StopSignal stop;
            std::raise(SIGINT);
            std::raise(SIGINT);
            exit_with_request();
        },
        ::testing::KilledBySignal(SIGINT), "");
}

TEST(StopSignalTest, RestoresTheHandlersAtTheEnd) {
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) {
        EXPECT_EXIT(
            {
                std::signal(signal, SIG_DFL); // nohup ignores it
                { const StopSignal stop; }
                std::raise(signal);
                exit_with_request();
            },
            ::testing::KilledBySignal(signal), "")
            << signal;
    }
}

} // namespace
} // namespace dtrain::run
