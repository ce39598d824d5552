#pragma once

#include <functional>
#include <string>

namespace dtrain::mpi {

/// What a launcher, mpirun or srun, tells each process that it starts, by variables of the environment. Needs no MPI.
struct Launch {
    int rank = 0;      ///< of this process among those that were started together; 0 where nothing tells
    int processes = 1; ///< how many these are, at the least
    int speaker = 0;   ///< the first that knows of the others: not rank 0 where ranks alone are told, and no number
    std::string told;  ///< by which variable: "PMI_SIZE = 4"
};

/// `variable` looks a name up, as std::getenv does. With DTRAIN_ALLOW_SINGLETONS = 1 each process is by itself.
[[nodiscard]] Launch find_launch(const std::function<const char*(const char* name)>& variable);

} // namespace dtrain::mpi
