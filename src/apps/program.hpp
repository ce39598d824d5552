#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/error.hpp"
#include "dtrain/mpi/communicator.hpp"

#include <functional>
#include <string>
#include <vector>

namespace dtrain::apps {

using Words = std::vector<std::string>;

/// The common part of the MPI programs. Answers --help and --version, or starts MPI and calls `run` with the words of
/// the command line. Turns mpi::AgreedError into one message of the program `name`, and returns the exit code.
int run_program(int argc, char** argv, const char* name, const char* usage,
                const std::function<core::ExitCode(Words words, const mpi::Communicator& communicator)>& run);

/// Calls `action`, which prints text without MPI, in the first process of a job only. Turns errors into a message, and
/// returns the exit code.
int answer(const char* name, const std::function<void()>& action);

/// Flushes standard output. Throws core::Error (bad_output) if printed text could not be written.
void finish_output();

/// The words of the command line, without the program's name.
[[nodiscard]] Words words_of(int argc, char** argv);

/// The version, and the commit if the build knew it: 0.1.0 (abc1234).
[[nodiscard]] const char* version();

/// Removes `word` from `words`. Returns whether it was there.
[[nodiscard]] bool take(Words& words, const std::string& word);

/// Whether the words contain --help, -h or --version.
[[nodiscard]] bool asks_for_text(const Words& words);

/// The error (bad_config) for an option that `usage` does not list. It names the nearest one that `usage` lists, if
/// any.
[[nodiscard]] core::Error unknown_option(const std::string& word, const std::string& usage);

/// Reads the config file that the first word without a leading dash names. The other words are overrides of its keys.
/// Throws core::Error (bad_config).
[[nodiscard]] config::Config read_config(Words words, const char* usage);
/// Collective: rank 0 reads the config, and all ranks return it. Throws mpi::AgreedError (bad_config).
[[nodiscard]] config::Config load_config(const Words& words, const char* usage, const mpi::Communicator& communicator);

} // namespace dtrain::apps
