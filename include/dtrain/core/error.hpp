#pragma once

#include <stdexcept>
#include <string>

namespace dtrain::core {

/// What the programs return to the shell. Scripts depend on these numbers.
enum class ExitCode : int {
    ok = 0,
    bad_config = 2,     ///< command line or config
    bad_data = 3,       ///< missing or damaged data set
    bad_checkpoint = 4, ///< damaged, or does not fit the config
    diverged = 5,       ///< the cost or a parameter is not finite
    bad_output = 6,     ///< the output cannot be written
    rank_lost = 7,      ///< a rank stalled or died
    stopped = 75,       ///< stopped on request after a checkpoint (EX_TEMPFAIL: running it again goes on)
};

/// A message for the user and the exit code it leads to. Any code may throw it. CONTRIBUTING.md ("Errors") says who
/// catches it. Copying it allocates nothing.
class Error : public std::runtime_error {
  public:
    Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
    [[nodiscard]] ExitCode code() const noexcept { return code_; }

  private:
    ExitCode code_;
};

/// In a handler: what it handles, as an Error. An Error is copied. Memory and threads that the system does not give are
/// bad_config, "out of memory"; what the file system refuses is bad_output, and what nobody has foreseen rank_lost.
/// Where memory is short it allocates none.
[[nodiscard]] Error current_error();

} // namespace dtrain::core
