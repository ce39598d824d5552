#pragma once

#include <stdexcept>
#include <string>

namespace dtrain::core {

/// The exit codes of the programs. Scripts depend on these numbers.
enum class ExitCode : int {
    ok = 0,
    bad_config = 2,     ///< command line or config
    bad_data = 3,       ///< the data set is missing or damaged
    bad_checkpoint = 4, ///< the checkpoint is damaged or does not fit the config
    diverged = 5,       ///< the cost or a parameter is not finite
    bad_output = 6,     ///< the output cannot be written
    rank_lost = 7,      ///< a rank stalled or died
    stopped = 75,       ///< stopped on request after a checkpoint (EX_TEMPFAIL: running again resumes)
};

/// A message for the user and the exit code it leads to. Any code may throw it; the section on errors in src/README.md
/// says who catches it. Copying an Error allocates no memory.
class Error : public std::runtime_error {
  public:
    Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
    [[nodiscard]] ExitCode code() const noexcept { return code_; }

  private:
    ExitCode code_;
};

/// Call it in a catch block. Returns the current exception as an Error; an Error is copied. If the system refuses
/// memory or a thread, the result is bad_config with the message "out of memory", and making it allocates no memory.
/// Errors of the file system become bad_output. All other exceptions become rank_lost.
[[nodiscard]] Error current_error();

} // namespace dtrain::core
