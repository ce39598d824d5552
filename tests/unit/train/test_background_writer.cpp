#include "dtrain/train/background_writer.hpp"

#include "support/errors.hpp"
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace dtrain::train {
namespace {

using support::error_of;

TEST(BackgroundWriter, RunsJobsInTheirOrderOneAtATime) {
    std::vector<int> done;
    std::atomic<int> running = 0;
    BackgroundWriter writer;
    for (int i = 0; i < 50; ++i) {
        writer.submit([&, i] {
            EXPECT_EQ(++running, 1);
            done.push_back(i);
            --running;
        });
    }
    writer.wait();
    ASSERT_EQ(done.size(), 50U);
    for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(done[static_cast<std::size_t>(i)], i);
    }
}

TEST(BackgroundWriter, RunsBesideTheCaller) {
    std::binary_semaphore release(0);
    std::atomic<bool> done = false;
    std::thread::id thread;
    BackgroundWriter writer;
    writer.submit([&] {
        release.acquire(); // would wait for ever on the caller's own thread
        thread = std::this_thread::get_id();
        done = true;
    });
    EXPECT_FALSE(done);
    release.release();
    writer.wait();
    EXPECT_TRUE(done);
    EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(BackgroundWriter, WaitsForTheJobInFlightInTheEnd) {
    bool done = false;
    {
        BackgroundWriter writer;
        writer.submit([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
            done = true;
        });
    }
    EXPECT_TRUE(done);
}

TEST(BackgroundWriter, ThrowsWhatAJobThrew) {
    BackgroundWriter writer;
    EXPECT_FALSE(writer.failed());
    writer.submit([] { throw core::Error(core::ExitCode::bad_output, "disk full"); });
    const auto error = error_of([&] { writer.wait(); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    EXPECT_EQ(std::string(error->what()), "disk full");
    EXPECT_TRUE(writer.failed());
    EXPECT_TRUE(error_of([&] { writer.wait(); })) << "a failure does not go away by asking";
}

TEST(BackgroundWriter, TurnsOtherExceptionsIntoErrors) {
    BackgroundWriter writer;
    writer.submit([] { throw std::runtime_error("surprise"); });
    const auto error = error_of([&] { writer.wait(); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    EXPECT_EQ(std::string(error->what()), "surprise");
}

TEST(BackgroundWriter, RunsNothingAfterAFailure) {
    bool ran = false;
    BackgroundWriter writer;
    writer.submit([] { throw core::Error(core::ExitCode::bad_output, "first"); });
    writer.submit([&] { ran = true; });
    const auto error = error_of([&] { writer.wait(); });
    ASSERT_TRUE(error);
    EXPECT_EQ(std::string(error->what()), "first");
    EXPECT_FALSE(ran);
}

TEST(BackgroundWriter, LetsGoOfWhatAJobOwned) {
    const auto owned = std::make_shared<int>(1);
    BackgroundWriter writer;
    writer.submit([owned] {});
    writer.wait();
    EXPECT_EQ(owned.use_count(), 1);
}

TEST(BackgroundWriter, TakesNoSignals) {
    sigset_t blocked;
    BackgroundWriter writer;
    writer.submit([&] { pthread_sigmask(SIG_SETMASK, nullptr, &blocked); });
    writer.wait();
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
        EXPECT_EQ(sigismember(&blocked, signal), 1);
    }
    sigset_t own;
    pthread_sigmask(SIG_SETMASK, nullptr, &own);
    EXPECT_EQ(sigismember(&own, SIGTERM), 0) << "the caller still takes them";
}

} // namespace
} // namespace dtrain::train
