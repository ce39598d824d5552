#include "dtrain/mpi/communicator.hpp"
#include "dtrain/run/watchdog.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <memory>
#include <mutex>
#include <regex>
#include <span>
#include <string>
#include <utility>

namespace dtrain::run {
namespace {

using core::Phase;
using Seconds = std::chrono::duration<double>;

constexpr double timeout = 0.6;
/// After this time a stall has been reported, also a stall on another node.
constexpr Seconds long_enough{timeout + 1.7};
/// On a busy machine, the ranks do not continue at the same moment after they were stopped together.
constexpr double longer = 2.5;

class WatchdogTest : public ::testing::Test {
  protected:
    void start(int ranks_per_node = 0, double timeout_seconds = timeout) {
        message_.clear();
        reports_ = 0;
        watchdog_ =
            std::make_unique<Watchdog>(world_, ranks_per_node, timeout_seconds, [this](const std::string& message) {
                message_ += message;
                ++reports_;
            });
    }

    /// Collective: ends the watchdog. Returns the number of ranks on which it reported.
    int reports() {
        watchdog_.reset();
        std::array<int, 1> all{reports_};
        world_.sum(std::span(all));
        return all[0];
    }

    /// Uses CPU time, as computing and spinning do.
    static void spin(Seconds seconds = long_enough) {
        const auto end = std::chrono::steady_clock::now() + seconds;
        while (std::chrono::steady_clock::now() < end) {
        }
    }

    /// Uses no CPU time, as in a deadlock or a system call that does not return.
    static void block(Seconds seconds = long_enough) {
        std::mutex mutex;
        std::unique_lock lock(mutex);
        std::condition_variable never;
        never.wait_for(lock, seconds, [] { return false; });
    }

    /// Stops this process for `seconds`, counted from the moment when it is stopped. With `together`, all ranks stop at
    /// once.
    void stop(bool together = false, Seconds seconds = long_enough) const {
        std::string script = fmt::format("until grep -q '^State:.T' /proc/{0}/status; do sleep 0.01; done; "
                                         "sleep {1}; kill -CONT {0}",
                                         getpid(), seconds.count());
        std::string shell = "sh";
        std::string option = "-c";
        std::array<char*, 4> words{shell.data(), option.data(), script.data(), nullptr};
        pid_t waker = 0;
        ASSERT_EQ(posix_spawn(&waker, "/bin/sh", nullptr, nullptr, words.data(), environ), 0);
        if (together) {
            world_.barrier();
        }
        const auto begin = std::chrono::steady_clock::now();
        do { // again if another process continues this one too early
            std::raise(SIGSTOP);
        } while (std::chrono::steady_clock::now() - begin < seconds - Seconds{0.1});
        waitpid(waker, nullptr, 0);
    }

    /// Exactly one rank has reported, and its message matches `pattern`.
    void expect_report(const std::string& pattern) {
        EXPECT_EQ(reports(), 1);
        if (reports_ > 0) {
            EXPECT_TRUE(std::regex_search(message_, std::regex(pattern))) << message_ << "\nshould match\n" << pattern;
        }
    }

    mpi::Communicator world_ = mpi::Communicator::world();
    int last_ = world_.size() - 1;
    std::string message_; ///< written on the watchdog's thread, read after its end
    int reports_ = 0;
    std::unique_ptr<Watchdog> watchdog_;
};

TEST_F(WatchdogTest, IsSilentWhileAllWork) {
    start();
    for (int step = 0; step < 100; ++step) {
        for (const Phase phase : {Phase::data, Phase::forward, Phase::backward, Phase::reduce, Phase::update}) {
            watchdog_->note(phase, step);
            spin(long_enough / 500);
        }
        world_.barrier();
    }
    EXPECT_EQ(reports(), 0) << message_;
}

// A rank may compute for any time while others wait for it: in their own spinning, as in the node reducer, or in MPI.
TEST_F(WatchdogTest, IsSilentWhileOneRankComputesForLong) {
    start();
    if (world_.rank() == last_) {
        watchdog_->note(Phase::forward, 3);
        spin();
    } else if (world_.rank() == 0) {
        watchdog_->note(Phase::reduce, 3);
        spin();
    }
    world_.barrier();
    EXPECT_EQ(reports(), 0) << message_;
}

TEST_F(WatchdogTest, NamesARankWhoseTrainingThreadIsBlocked) {
    for (const auto& [phase, name] :
         {std::pair(Phase::forward, "forward"), std::pair(Phase::other, "other \\(start-up or evaluation\\)")}) {
        start();
        if (world_.rank() == last_) {
            watchdog_->note(phase, 7);
            block();
        }
        world_.barrier();
        expect_report(fmt::format("^rank {} on \\S+ \\(process \\d+\\) has made no progress for 0.6 seconds, "
                                  "last seen in step 8, phase {}\\.",
                                  last_, name));
    }
}

TEST_F(WatchdogTest, NamesARankThatIsBlockedInReduce) {
    start();
    watchdog_->note(Phase::reduce, 7);
    if (world_.rank() == last_) {
        block();
    } else {
        spin();
    }
    world_.barrier();
    expect_report(fmt::format("^rank {} .* has made no progress .* in step 8, phase reduce\\.", last_));
}

// One rank reads or writes a file. The others wait for it, also those on other nodes.
TEST_F(WatchdogTest, IsSilentWhileTheDiskIsSlow) {
    for (const int ranks_per_node : {0, 1}) {
        start(ranks_per_node);
        watchdog_->note(Phase::write, 7);
        if (world_.rank() == 0) {
            block();
        }
        world_.barrier();
        EXPECT_EQ(reports(), 0) << message_;
    }
}

// A watchdog that cannot look at the other processes does not report them as dead.
TEST_F(WatchdogTest, IsSilentWithoutFileDescriptors) {
    start();
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    const rlimit none{0, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    spin();
    setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_EQ(reports(), 0) << message_;
}

TEST_F(WatchdogTest, NamesARankWhoseProcessIsStopped) {
    if (world_.size() == 1) {
        GTEST_SKIP() << "a rank cannot notice that it is stopped";
    }
    for (const Phase phase : {Phase::backward, Phase::reduce, Phase::write}) {
        start();
        watchdog_->note(phase, 0);
        if (world_.rank() == 0) {
            stop();
        }
        world_.barrier();
        expect_report("^rank 0 on \\S+ .* has made no progress for .* in step 1,");
    }
}

// The complete job is stopped and continued.
TEST_F(WatchdogTest, IsSilentAfterAllWereStopped) {
    start(0, longer);
    watchdog_->note(Phase::reduce, 0);
    stop(true, Seconds{longer + 1});
    spin(Seconds{0.5});
    EXPECT_EQ(reports(), 0) << message_;
}

// Rank 0 sees the others still stopped. It does not count the time in which it was stopped itself.
TEST_F(WatchdogTest, IsSilentAfterAllWereStoppedAndContinuedOneByOne) {
    start(0, longer);
    watchdog_->note(Phase::reduce, 0);
    stop(true, Seconds{longer + 1 + (world_.rank() == 0 ? 0 : 1.6)});
    spin(Seconds{0.5});
    EXPECT_EQ(reports(), 0) << message_;
}

TEST_F(WatchdogTest, ReportsThatAllWaitForEachOther) {
    start();
    watchdog_->note(Phase::reduce, 4);
    spin();
    expect_report("^all ranks on \\S+ have waited for each other for 0.6 seconds, rank 0 last seen in step 5, "
                  "phase reduce\\.");
}

// With one rank per node, only the other nodes see a rank that stalls: they wait for it. In the reduce phase waiting
// may be spinning on shared memory. Elsewhere it is a call of MPI.
TEST_F(WatchdogTest, ReportsThatAnotherNodeDoesNotAnswer) {
    if (world_.size() == 1) {
        GTEST_SKIP() << "there is no other node";
    }
    for (const Phase phase : {Phase::reduce, Phase::other}) {
        start(1);
        watchdog_->note(phase, 4);
        if (world_.rank() == last_) {
            stop();
        } else if (phase == Phase::reduce) {
            spin();
        }
        world_.barrier();
        expect_report(fmt::format("^all ranks on (\\S+) have waited for another node \\(.*ranks? .*{} on \\1\\) for "
                                  "0.6 seconds, rank 0 last seen in step 5, phase {}\\.",
                                  last_, phase == Phase::reduce ? "reduce" : "other \\(start-up or evaluation\\)"));
    }
}

} // namespace
} // namespace dtrain::run
