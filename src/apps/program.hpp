#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/error.hpp"
#include "dtrain/mpi/communicator.hpp"

#include <functional>
#include <string>
#include <vector>

namespace dtrain::apps {

using Words = std::vector<std::string>;

/// What the MPI programs have in common: answers --help and --version, starts MPI, runs `run` with the words of the
/// command line, and turns errors that all ranks agree on into one message of the program `name` and an exit code.
int run_program(int argc, char** argv, const char* name, const char* usage,
                const std::function<core::ExitCode(Words words, const mpi::Communicator& communicator)>& run);

/// Runs `action`, which prints what needs no MPI, in the first process of a job alone, and turns errors into a message
/// and an exit code.
int answer(const char* name, const std::function<void()>& action);

/// Throws core::Error (bad_output) if something that was printed did not reach standard output.
void finish_output();

/// The words of the command line, the program's name left out.
[[nodiscard]] Words words_of(int argc, char** argv);

/// Whether `words` has `word`, which is then taken out.
[[nodiscard]] bool take(Words& words, const std::string& word);

/// The config that the only word without dashes names, with the others as overrides.
[[nodiscard]] config::Config read_config(Words words, const char* usage);
/// Collective: the same, read by rank 0.
[[nodiscard]] config::Config load_config(const Words& words, const char* usage, const mpi::Communicator& communicator);

} // namespace dtrain::apps
