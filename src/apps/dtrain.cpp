#include "dtrain/run/run_files.hpp"
#include "dtrain/run/stop_signal.hpp"
#include "dtrain/run/trainer.hpp"
#include "dtrain/train/description.hpp"
#include "dtrain/train/memory.hpp"
#include "dtrain/train/plan.hpp"

#include "program.hpp"
#include <fmt/format.h>

#include <string>

namespace {

using namespace dtrain;

constexpr const char* usage =
    R"(usage: [mpirun -np N] dtrain CONFIG [--section.key=value ...] [--check | --print-config]

Trains the network that the INI file CONFIG describes, on any number of MPI ranks.
Running the same command again goes on where the last checkpoint ends.

  --section.key=value  overrides a key of the config, such as --training.epochs=5
  --check              validates config and data, tells what would be trained, and writes nothing
  --print-config       prints the resolved config and looks at nothing else
  --help, --version

exit codes: 0 done, 2 bad command line or config, 3 bad data, 4 bad checkpoint, 5 diverged,
            6 cannot write output, 7 a rank stalled or died, 75 stopped on request
)";

core::ExitCode execute(apps::Words words, const mpi::Communicator& communicator) {
    const bool check = apps::take(words, "--check");
    const config::Config config = apps::load_config(words, usage, communicator);
    const run::StopSignal stop_signal; // not before: reading a config may wait for ever, for the writer of a pipe
    if (check) {
        train::Plan plan(config, communicator, run::RunFiles::writing_bytes(config));
        const std::string memory = train::describe_memory(plan.memory(), communicator);
        const data::Dataset dataset = plan.load();
        if (communicator.is_root()) {
            fmt::print("{}\n{}\n{}\n{}\n", config.resolved(), train::describe(plan), memory, train::describe(dataset));
        }
        return core::ExitCode::ok;
    }
    run::Trainer trainer(config, communicator);
    return trainer.run();
}

} // namespace

int main(int argc, char** argv) {
    apps::Words words = apps::words_of(argc, argv);
    if (apps::take(words, "--print-config")) {
        return apps::answer("dtrain", [&] { fmt::print("{}\n", apps::read_config(words, usage).resolved()); });
    }
    return apps::run_program(argc, argv, "dtrain", usage, execute);
}
