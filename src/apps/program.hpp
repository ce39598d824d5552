#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/error.hpp"
#include "dtrain/mpi/communicator.hpp"

#include <functional>
#include <string>
#include <vector>

namespace dtrain::apps {

using Words = std::vector<std::string>;

/// What the MPI programs have in common: starts MPI, answers --help and --version, runs `run` with the words of the
/// command line, and turns errors that all ranks agree on into one message of the program `name` and an exit code.
int run_program(int argc, char** argv, const char* name, const char* usage,
                const std::function<core::ExitCode(Words words, const mpi::Communicator& communicator)>& run);

/// Whether `words` has `word`, which is then taken out.
[[nodiscard]] bool take(Words& words, const std::string& word);

/// Collective: the config that the only word without dashes names, with the others as overrides. Rank 0 reads it.
[[nodiscard]] config::Config load_config(const Words& words, const char* usage, const mpi::Communicator& communicator);

} // namespace dtrain::apps
