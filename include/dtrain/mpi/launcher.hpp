#pragma once

#include <functional>
#include <string>

namespace dtrain::mpi {

/// What the environment variables of a launcher (such as mpirun or srun) say about the processes that were started
/// together.
struct Launch {
    int rank = 0;      ///< the rank of this process; 0 if it is unknown
    int processes = 1; ///< the number of processes, or a lower bound of it
    int reporter = 0;  ///< the rank that should print messages: 0, or 1 if the environment has no number of processes
    std::string evidence; ///< the variable with that information, such as "PMI_SIZE = 4"; empty if there is none
};

/// Reads the environment; does not need MPI. `variable` looks up a name like std::getenv. If DTRAIN_ALLOW_SINGLETONS is
/// 1, the result is a single process.
[[nodiscard]] Launch find_launch(const std::function<const char*(const char* name)>& variable);

/// Whether no launcher started this process, as far as the environment tells. It is false with DTRAIN_ALLOW_SINGLETONS,
/// which hides what launchers say.
[[nodiscard]] bool is_alone(const std::function<const char*(const char* name)>& variable);

} // namespace dtrain::mpi
