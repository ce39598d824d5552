// Runs the tests of an executable on all ranks at once. Rank 0 prints the progress, other ranks print only their
// failures. The exit code of every rank is the result of all ranks.

#include "dtrain/mpi/communicator.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <span>
#include <string>

namespace {

/// Prints the failures of ranks other than 0. A fatal failure leaves a test early and ends all ranks at once, because
/// the others may wait in a collective call that this rank will never reach.
class FailureListener : public ::testing::EmptyTestEventListener {
  public:
    explicit FailureListener(int rank) : rank_(rank) {}
    void OnTestStart(const ::testing::TestInfo& test) override {
        test_ = std::string(test.test_suite_name()) + "." + test.name(); // reading the name later would deadlock
    }
    void OnTestPartResult(const ::testing::TestPartResult& result) override {
        if (result.failed() && rank_ != 0) {
            std::fprintf(stderr, "rank %d: %s: %s:%d\n%s\n", rank_, test_.c_str(),
                         result.file_name() == nullptr ? "?" : result.file_name(), result.line_number(),
                         result.message());
        }
        if (result.fatally_failed()) {
            std::fflush(nullptr);
            MPI_Abort(MPI_COMM_WORLD, 1);
        }
    }

  private:
    int rank_;
    std::string test_;
};

} // namespace

int main(int argc, char** argv) {
    const dtrain::mpi::Environment environment(argc, argv);
    const dtrain::mpi::Communicator world = dtrain::mpi::Communicator::world();
    ::testing::InitGoogleTest(&argc, argv);
    ::testing::TestEventListeners& listeners = ::testing::UnitTest::GetInstance()->listeners();
    if (!world.is_root()) {
        delete listeners.Release(listeners.default_result_printer());
    }
    listeners.Append(new FailureListener(world.rank()));
    std::array<int, 1> failed{RUN_ALL_TESTS() == 0 ? 0 : 1};
    world.sum(std::span(failed));
    if (world.is_root() && failed[0] > 0) {
        std::fprintf(stderr, "failed on %d of %d ranks\n", failed[0], world.size());
    }
    return failed[0] > 0 ? 1 : 0;
}
