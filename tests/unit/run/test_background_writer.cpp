#include "dtrain/core/thread.hpp"
#include "dtrain/run/background_writer.hpp"

#include "support/errors.hpp"
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <memory>
#include <new>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

namespace dtrain::run {
namespace {

using support::error_of;
using Lane = BackgroundWriter::Lane;

constexpr std::size_t no_limit = 1000;

TEST(BackgroundWriter, RunsJobsInOrderOneAtATime) {
    std::vector<int> done;
    std::atomic<int> running = 0;
    BackgroundWriter writer;
    for (int i = 0; i < 50; ++i) {
        writer.submit(
            Lane::log,
            [&, i] {
                EXPECT_EQ(++running, 1);
                done.push_back(i);
                --running;
            },
            no_limit);
    }
    writer.wait();
    ASSERT_EQ(done.size(), 50U);
    for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(done[static_cast<std::size_t>(i)], i);
    }
}

TEST(BackgroundWriter, RunsConcurrentlyWithTheCaller) {
    std::binary_semaphore release(0);
    std::atomic<bool> done = false;
    std::thread::id thread;
    BackgroundWriter writer;
    writer.submit(
        Lane::log,
        [&] {
            release.acquire(); // on the caller's thread this would wait forever
            thread = std::this_thread::get_id();
            done = true;
        },
        1);
    EXPECT_FALSE(done);
    release.release();
    writer.wait();
    EXPECT_TRUE(done);
    EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(BackgroundWriter, WaitsForTheCurrentJobAtTheEnd) {
    bool done = false;
    {
        BackgroundWriter writer;
        writer.submit(
            Lane::log,
            [&] {
                std::this_thread::sleep_for(std::chrono::milliseconds(50));
                done = true;
            },
            1);
    }
    EXPECT_TRUE(done);
}

TEST(BackgroundWriter, ThrowsWhatAJobThrew) {
    BackgroundWriter writer;
    EXPECT_FALSE(writer.failed());
    writer.submit(
        Lane::log, [] { throw core::Error(core::ExitCode::bad_output, "disk full"); }, 1);
    const auto error = error_of([&] { writer.wait(); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    EXPECT_EQ(std::string(error->what()), "disk full");
    EXPECT_TRUE(writer.failed());
    EXPECT_TRUE(error_of([&] { writer.wait(); })) << "the error is thrown every time";
}

TEST(BackgroundWriter, ReportsLackOfMemoryAsSuch) {
    BackgroundWriter writer;
    writer.submit(
        Lane::log, [] { throw std::bad_alloc(); }, 1);
    EXPECT_THROW(writer.wait(), std::bad_alloc);
}

TEST(BackgroundWriter, RunsNothingAfterAFailure) {
    bool ran = false;
    BackgroundWriter writer;
    writer.submit(
        Lane::log, [] { throw core::Error(core::ExitCode::bad_output, "first"); }, 1);
    writer.submit(
        Lane::log, [&] { ran = true; }, no_limit);
    const auto error = error_of([&] { writer.wait(); });
    ASSERT_TRUE(error);
    EXPECT_EQ(std::string(error->what()), "first");
    EXPECT_FALSE(ran);
}

/// A writer whose thread is blocked by a job until released.
class HeldWriter {
  public:
    HeldWriter() {
        writer.submit(
            Lane::log,
            [this] {
                held.release();
                go_on.acquire();
            },
            1);
        held.acquire();
    }
    [[nodiscard]] std::size_t note(Lane lane, const std::string& name, std::size_t max_waiting) {
        return writer.submit(
            lane, [this, name] { done.push_back(name); }, max_waiting);
    }
    void finish() {
        go_on.release();
        writer.wait();
    }

    std::vector<std::string> done; // declared before the writer, whose thread uses it
    std::binary_semaphore held{0};
    std::binary_semaphore go_on{0};
    BackgroundWriter writer;
};

TEST(BackgroundWriter, NeverMakesTheCallerWaitAndDropsTheOldest) {
    HeldWriter held; // a caller that waits here would wait forever
    EXPECT_EQ(held.note(Lane::checkpoint, "c1", 2), 0U);
    EXPECT_EQ(held.note(Lane::log, "l1", 1), 0U);
    EXPECT_EQ(held.note(Lane::checkpoint, "c2", 2), 0U);
    EXPECT_EQ(held.note(Lane::log, "l2", 1), 1U);
    EXPECT_EQ(held.note(Lane::checkpoint, "c3", 2), 1U);
    EXPECT_EQ(held.note(Lane::checkpoint, "c4", 1), 2U);
    held.finish();
    EXPECT_EQ(held.done, (std::vector<std::string>{"c4", "l2"}));
}

TEST(BackgroundWriter, AlternatesBetweenLanes) {
    HeldWriter held;
    for (const char* name : {"c1", "c2", "c3"}) {
        EXPECT_EQ(held.note(Lane::checkpoint, name, no_limit), 0U);
    }
    for (const char* name : {"l1", "l2"}) {
        EXPECT_EQ(held.note(Lane::log, name, no_limit), 0U);
    }
    held.finish();
    EXPECT_EQ(held.done, (std::vector<std::string>{"c1", "l1", "c2", "l2", "c3"}));
}

TEST(BackgroundWriter, CountsTheTimeOfEachLane) {
    BackgroundWriter writer;
    writer.submit(
        Lane::checkpoint,
        [] {
            for (const double begun = core::thread_seconds(); core::thread_seconds() - begun < 0.02;) {
            }
        },
        1);
    writer.submit(
        Lane::log, [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }, 1);
    writer.wait();
    EXPECT_GE(writer.seconds(Lane::checkpoint), 0.02);
    EXPECT_LT(writer.seconds(Lane::log), 0.01) << "waiting for the disk is not CPU time";
}

TEST(BackgroundWriter, ReleasesWhatAJobOwned) {
    const auto owned = std::make_shared<int>(1);
    BackgroundWriter writer;
    writer.submit(
        Lane::log, [owned] {}, 1);
    writer.wait();
    EXPECT_EQ(owned.use_count(), 1);
}

TEST(BackgroundWriter, BlocksSignals) {
    sigset_t blocked;
    BackgroundWriter writer;
    writer.submit(
        Lane::log, [&] { pthread_sigmask(SIG_SETMASK, nullptr, &blocked); }, 1);
    writer.wait();
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
        EXPECT_EQ(sigismember(&blocked, signal), 1);
    }
    sigset_t own;
    pthread_sigmask(SIG_SETMASK, nullptr, &own);
    EXPECT_EQ(sigismember(&own, SIGTERM), 0) << "the caller still receives them";
}

} // namespace
} // namespace dtrain::run
