#include "dtrain/config/config.hpp"
#include "dtrain/core/error.hpp"
#include "dtrain/core/gemm.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/train/stop_signal.hpp"
#include "dtrain/train/trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

using namespace dtrain;

constexpr const char* usage = R"(usage: [mpirun -np N] dtrain CONFIG [--section.key=value ...] [--check]

Trains the network that the INI file CONFIG describes, on any number of MPI ranks.
Running the same command again goes on where the last checkpoint ends.

  --section.key=value  overrides a key of the config, such as --training.epochs=5
  --check              validates config and data, tells what would be trained, and writes nothing
  --help, --version

exit codes: 0 done, 2 bad command line or config, 3 bad data, 4 bad checkpoint, 5 diverged,
            6 cannot write output, 7 a rank stalled or died, 75 stopped on request
)";

core::ExitCode run(const std::vector<std::string>& arguments, const mpi::Communicator& communicator) {
    const auto has = [&](const char* word) { return std::ranges::find(arguments, word) != arguments.end(); };
    if (has("--help") || has("-h") || has("--version")) {
        if (communicator.is_root()) {
            fmt::print("{}", has("--version") ? "dtrain " DTRAIN_VERSION "\n" : usage);
        }
        return core::ExitCode::ok;
    }
    config::Config config;
    std::string resolved;
    mpi::together(communicator, [&] {
        std::vector<std::string> overrides = arguments;
        std::erase(overrides, "--check");
        const auto file = std::ranges::find_if(overrides, [](const auto& word) { return !word.starts_with("-"); });
        if (file == overrides.end()) {
            throw core::Error(core::ExitCode::bad_config, fmt::format("no config file given\n{}", usage));
        }
        const std::string name = *file;
        overrides.erase(file);
        if (communicator.is_root()) {
            config = config::load(name, overrides);
            resolved = config.resolved();
        }
    });
    resolved = communicator.broadcast(std::move(resolved));
    if (!communicator.is_root()) {
        config = config::parse(resolved, "config");
    }
    core::set_product_threads(config.parallel.blas_threads);
    train::Trainer trainer(config, communicator);
    if (has("--check")) {
        if (communicator.is_root()) {
            fmt::print("{}\n{}\n{}\n", config.resolved(), trainer.description(), trainer.memory_description());
        }
        return core::ExitCode::ok;
    }
    try {
        return trainer.run();
    } catch (const mpi::AgreedError&) {
        throw;
    } catch (const std::exception& error) {
        // Here, while the trainer lives: its destructors would wait for ranks that know nothing of this error.
        fmt::print(stderr, "dtrain: rank {}: {}\n", communicator.rank(), error.what());
        mpi::abort(core::ExitCode::rank_lost);
    }
}

} // namespace

int main(int argc, char** argv) {
    const mpi::Environment environment(argc, argv);
    const train::StopSignal stop_signal;
    const mpi::Communicator world = mpi::Communicator::world();
    try {
        const core::ExitCode code = run({argv + 1, argv + argc}, world);
        std::fflush(stdout);
        world.barrier(); // mpirun ends all ranks when the first one exits with another code than 0
        return static_cast<int>(code);
    } catch (const mpi::AgreedError& error) {
        if (world.is_root()) {
            fmt::print(stderr, "dtrain: {}\n", error.what());
        }
        world.barrier();
        return static_cast<int>(error.code());
    } catch (const core::Error& error) {
        fmt::print(stderr, "dtrain: rank {}: {}\n", world.rank(), error.what());
        mpi::abort(error.code());
    } catch (const std::exception& error) {
        fmt::print(stderr, "dtrain: rank {}: {}\n", world.rank(), error.what());
        mpi::abort(core::ExitCode::rank_lost);
    }
}
