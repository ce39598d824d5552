#include "dtrain/run/write_budget.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

namespace dtrain::run {
namespace {

using namespace std::chrono_literals;
using Clock = WriteBudget::Clock;
using Seconds = std::chrono::duration<double>;

/// The time that a run of `epochs` epochs spends on files. A file costs `seconds_of(epochs so far)`. A quarter of the
/// cost falls on the training thread, which waits for it.
struct Spent {
    double fraction = 0;
    int files = 0;
    Seconds longest_wait{0};
};

template <class SecondsOf>
Spent spent(int epochs, Seconds epoch_time, SecondsOf&& seconds_of) {
    const Clock::time_point begin{};
    Clock::time_point now = begin;
    Clock::time_point last = begin;
    WriteBudget budget(begin);
    double background = 0;
    Spent all;
    for (int epoch = 1; epoch <= epochs; ++epoch) {
        now += std::chrono::duration_cast<Clock::duration>(epoch_time);
        if (budget.allows(now, background)) {
            const Seconds cost(seconds_of(epoch));
            budget.wrote(now, cost.count() / 4);
            background += 0.75 * cost.count();
            all.fraction += cost.count();
            all.longest_wait = std::max(all.longest_wait, Seconds(now - last));
            last = now;
            now += std::chrono::duration_cast<Clock::duration>(cost / 4);
            ++all.files;
        }
    }
    all.longest_wait = std::max(all.longest_wait, Seconds(now - last));
    all.fraction /= Seconds(now - begin).count();
    return all;
}

TEST(WriteBudget, WritesAtEveryEpochOfAnOrdinaryRun) {
    EXPECT_EQ(spent(50, 100ms, [](int) { return 0.01; }).files, 50);
    EXPECT_EQ(spent(10'000, 1s, [](int) { return 0.02; }).files, 10'000);
    EXPECT_EQ(spent(100, 20s, [](int) { return 15.0; }).files, 100) << "more than ten seconds apart";
}

// A million epochs of ten samples.
TEST(WriteBudget, LimitsTheFractionOfVeryShortEpochs) {
    const Spent all = spent(1'000'000, 500us, [](int epoch) { return 0.001 + 1e-7 * epoch; });
    EXPECT_LT(all.fraction, 0.027);
    EXPECT_GT(all.fraction, 0.02);
    EXPECT_LT(all.longest_wait, 10.2s);
}

TEST(WriteBudget, PostponesNothingForLong) {
    const Spent all = spent(1000, 1s, [](int) { return 3.0; });
    EXPECT_EQ(all.longest_wait, 10s + 0.75s);
    EXPECT_GE(all.files, 90);
}

} // namespace
} // namespace dtrain::run
