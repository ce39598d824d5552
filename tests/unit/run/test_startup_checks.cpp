#include "dtrain/run/startup_checks.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace dtrain::run {
namespace {

CoreSet cores(std::initializer_list<std::size_t> numbers) {
    CoreSet set;
    for (const std::size_t number : numbers) {
        set.set(number);
    }
    return set;
}

using io::PhaseSeconds;
using Sets = std::vector<CoreSet>;

TEST(Crowd, IsNoneIfEveryThreadHasACore) {
    EXPECT_EQ(find_crowd(Sets{cores({0}), cores({1})}, 1, 2).ranks, 0);
    EXPECT_EQ(find_crowd(Sets{cores({0, 1}), cores({0, 1})}, 1, 2).ranks, 0);
    EXPECT_EQ(find_crowd(Sets{cores({0, 1}), cores({2, 3})}, 2, 4).ranks, 0);
    EXPECT_EQ(find_crowd(Sets{cores({0, 1, 2, 3}), cores({0, 1, 2, 3})}, 2, 4).ranks, 0);
    EXPECT_EQ(find_crowd(Sets{CoreSet(), CoreSet()}, 1, 2).ranks, 0) << "unknown";
}

TEST(Crowd, MoreRanksThanCores) {
    const Crowd crowd = find_crowd(Sets(3, cores({0, 1})), 1, 2);
    EXPECT_EQ(crowd.ranks, 3);
    EXPECT_EQ(crowd.cores, 2);
    EXPECT_EQ(describe(crowd, 1, "n1", 0),
              "3 ranks share 2 cores on n1, so training will be slow. Use at most 2 ranks on this host");
}

TEST(Crowd, MoreThreadsThanCores) {
    const Crowd crowd = find_crowd(Sets(2, cores({0, 1, 2, 3})), 4, 4);
    EXPECT_EQ(crowd.ranks, 2);
    const std::string text = describe(crowd, 4, "n1", 3);
    EXPECT_EQ(text, "2 ranks with 4 threads each share 4 cores on n1, and 3 other hosts have too many threads as well, "
                    "so training will be slow. Set parallel.threads = 2, or use at most 1 rank on this host");
}

TEST(Crowd, RanksBoundToOneCore) {
    // The other ranks have enough cores, and in total there are as many cores as ranks.
    Crowd crowd = find_crowd(Sets{cores({5}), cores({5}), cores({6, 7})}, 1, 8);
    crowd.bound_by_mpirun = true;
    EXPECT_EQ(crowd.ranks, 2);
    EXPECT_EQ(crowd.cores, 1);
    EXPECT_EQ(crowd.first_core, 5);
    const std::string text = describe(crowd, 1, "n1", 0);
    EXPECT_EQ(text,
              "2 ranks share 1 of the 8 cores on n1 (core 5), so training will be slow. Use mpirun --bind-to core "
              "--map-by core without taskset, which gives each rank a core of its own, or use at most 1 rank on "
              "this host");
}

TEST(Crowd, RanksBoundToFewerCoresThanTheirThreads) {
    Crowd crowd = find_crowd(Sets{cores({0}), cores({1})}, 4, 8);
    crowd.bound_by_mpirun = true;
    EXPECT_EQ(crowd.ranks, 1);
    const std::string text = describe(crowd, 4, "n1", 0);
    EXPECT_TRUE(text.starts_with("1 rank with 4 threads shares 1 of the 8 cores on n1 (core 0), so training")) << text;
    EXPECT_NE(text.find("--map-by slot:PE=4"), std::string::npos) << text;
    EXPECT_NE(text.find("threads = 1"), std::string::npos) << text;
}

// The advice must be possible on that host.

TEST(Crowd, UnderTasksetDoesNotSuggestOptionsOfMpirun) {
    const std::string text = describe(find_crowd(Sets(2, cores({1})), 1, 2), 1, "n1", 0);
    EXPECT_TRUE(text.ends_with("slow. Remove what binds them (not mpirun: taskset, or the limits of a batch job or a "
                               "container), or use at most 1 rank on this host"))
        << text;
    EXPECT_EQ(text.find("--bind-to"), std::string::npos) << text;
}

TEST(Crowd, OfMoreThreadsThanTheMachineHasCores) {
    EXPECT_EQ(describe(find_crowd(Sets(1, cores({0, 1})), 1024, 2), 1024, "n1", 0),
              "1 rank with 1024 threads shares 2 cores on n1, so training will be slow. Set parallel.threads = 2");
    const std::string many = describe(find_crowd(Sets(3, cores({0, 1})), 8, 2), 8, "n1", 0);
    EXPECT_TRUE(many.ends_with("slow. Set parallel.threads = 1 and use at most 2 ranks on this host")) << many;
    // mpirun bound each rank to a core, and there are no more cores.
    Crowd bound = find_crowd(Sets{cores({0}), cores({1})}, 4, 2);
    bound.bound_by_mpirun = true;
    EXPECT_TRUE(describe(bound, 4, "n1", 0).ends_with("slow. Set parallel.threads = 1"));
    // There are more cores, but not four per rank.
    bound.host_cores = 4;
    EXPECT_NE(describe(bound, 4, "n1", 0)
                  .find("slot:PE=2 without taskset, which gives each rank 2 cores of its own, enough for "
                        "parallel.threads = 2, or set"),
              std::string::npos);
}

TEST(Crowd, IsTheMostCrowdedSetOfCores) {
    // Nested sets: four ranks on two cores, three of them on one.
    const Sets allowed{cores({0, 1}), cores({1}), cores({1}), cores({1}), cores({2})};
    const Crowd crowd = find_crowd(allowed, 1, 4);
    EXPECT_EQ(crowd.ranks, 3);
    EXPECT_EQ(crowd.cores, 1);
    // Each core has room for its one bound rank, but the two cores have no room for three ranks.
    const Crowd of_both = find_crowd(Sets{cores({0, 1}), cores({0}), cores({1})}, 1, 4);
    EXPECT_EQ(of_both.ranks, 3);
    EXPECT_EQ(of_both.cores, 2);
}

TEST(ExchangeCheck, WarnsOnceWithTheMaximumNumberOfRanks) {
    ExchangeCheck check(false);
    // 50 us of computing and 200 us of exchange in each step. Another rank also waits.
    const std::vector<PhaseSeconds> first{{49 * 40e-6, 49 * 150e-6, 49 * 750e-6},
                                          {49 * 60e-6, 49 * 150e-6, 49 * 50e-6},
                                          {49 * 50e-6, 49 * 150e-6, 49 * 60e-6},
                                          {49 * 50e-6, 49 * 150e-6, 49 * 70e-6}};
    const std::vector<PhaseSeconds> later(4, {50e-6, 150e-6, 50e-6});
    EXPECT_FALSE(check.add(49, first)) << "too few steps for a decision";
    const auto warning = check.add(1, later);
    ASSERT_TRUE(warning);
    EXPECT_NE(warning->find("200 us and 50 us of a step. "), std::string::npos) << *warning;
    EXPECT_NE(warning->find("Raise training.batch_size, or use at most 1 rank,"), std::string::npos) << *warning;
    EXPECT_FALSE(check.add(100, later)) << "once";
}

TEST(ExchangeCheck, FindsTheRanksAtWhichBothTakeEquallyLong) {
    ExchangeCheck check(true);
    const auto warning = check.add(100, std::vector<PhaseSeconds>(64, {1.0, 1.5, 0.5}));
    ASSERT_TRUE(warning);
    EXPECT_NE(warning->find("The batch is the whole training set: use at most 32 ranks,"), std::string::npos)
        << *warning;
}

TEST(ExchangeCheck, IsSilentIfComputingTakesLonger) {
    const auto warns = [](const std::vector<PhaseSeconds>& ranks) {
        return ExchangeCheck(false).add(100, ranks).has_value();
    };
    EXPECT_FALSE(warns({{1.0, 0.5, 0.4}, {1.0, 0.5, 0.4}}));
    EXPECT_FALSE(warns({{1.0, 0.1, 0.0}, {1.0, 0.1, 4.9}})) << "waiting for the other rank does not count";
    EXPECT_FALSE(warns({{1.0, 2.0, 0.0}})) << "alone";
}

} // namespace
} // namespace dtrain::run
