#include "dtrain/core/terminal.hpp"
#include "dtrain/model/saved_network.hpp"
#include "dtrain/run/run_files.hpp"
#include "dtrain/run/startup_checks.hpp"
#include "dtrain/run/stop_signal.hpp"
#include "dtrain/run/trainer.hpp"
#include "dtrain/train/description.hpp"
#include "dtrain/train/memory.hpp"
#include "dtrain/train/plan.hpp"

#include "program.hpp"
#include <fmt/format.h>

#include <string>
#include <string_view>

namespace {

using namespace dtrain;

constexpr const char* usage =
    R"(usage: [mpirun -np N] dtrain CONFIG [--section.key=value ...] [--check | --print-config]

Trains the network that the INI file CONFIG describes, on any number of MPI ranks.
The same command again resumes from the newest checkpoint.

  --section.key=value  overrides a key of the config, for example --training.epochs=5
  --check              checks config and data, prints the network and the memory it needs, writes nothing
  --print-config       prints every key with its value, reads nothing but CONFIG
  --help               prints this text
  --version            prints the version

environment:
  DTRAIN_ISA           instructions to compute with: x86-64-v4+amx, x86-64-v4+bf16, x86-64-v4, x86-64-v3 or reference
                       (without vectors, slow; default: the fastest that the CPUs of all ranks have)

exit codes: 0 done, 2 bad command line or config, 3 bad data, 4 bad checkpoint, 5 training diverged,
            6 cannot write output, 7 a rank died or stalled, 75 stopped on request after a checkpoint
)";

core::ExitCode execute(apps::Words words, const mpi::Communicator& communicator) {
    const bool check = apps::take(words, "--check");
    const config::Config config = apps::load_config(words, usage, communicator);
    if (communicator.is_root() && config.data.source != "hdf5" && config.data.file != config::Config().data.file) {
        core::print_error(
            "dtrain: warning: data.file = {} is not used, because data.source = {}. For an HDF5 file, set "
            "data.source = hdf5\n",
            config.data.file.string(), config.data.source);
    }
    const run::StopSignal stop_signal; // after the config: reading it from a pipe may block, and Ctrl-C must end that
    if (check) {
        train::Plan plan(config, communicator, run::RunFiles::writing_bytes(config));
        const std::string memory = train::describe_memory(plan.memory(), communicator);
        const data::Dataset dataset = plan.load();
        mpi::together(communicator, [&] {
            if (communicator.is_root()) {
                (void)model::open_initial(config, plan.network().layout(), [](std::string_view text) {
                    core::print_error("dtrain: warning: {}\n", text);
                });
            }
        });
        if (communicator.is_root()) {
            for (const std::string& warning : run::find_unlikely_settings(plan)) {
                core::print_error("dtrain: warning: {}\n", warning);
            }
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
    if (apps::take(words, "--print-config") && !apps::asks_for_text(words)) {
        return apps::answer("dtrain", [&] {
            if (apps::take(words, "--check")) {
                throw core::Error(core::ExitCode::bad_config,
                                  "--check and --print-config exclude each other: give one of them");
            }
            fmt::print("{}\n", apps::read_config(words, usage).resolved());
        });
    }
    return apps::run_program(argc, argv, "dtrain", usage, execute);
}
