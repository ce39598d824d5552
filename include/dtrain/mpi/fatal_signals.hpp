#pragma once

#include <string_view>

namespace dtrain::mpi {

/// Makes SIGQUIT, SIGILL, SIGTRAP and SIGABRT print a message, and then end this process as SIGKILL does. `process` is
/// its name in the message; call the function again to change it.
///
/// It is for MPICH, whose mpirun returns the number of a signal. The numbers of these signals (3 to 6) are also exit
/// codes of the programs. For example, UCX may call abort() on a rank that was connected to a rank that died; without
/// this function, mpirun would return 6, which means that the output cannot be written. SIGKILL leaves no core dump,
/// but a debugger stops at the first signal. An exit code would be no substitute, because mpirun does not end the ranks
/// of other hosts after an exit code.
void end_by_kill_on_fatal_signals(std::string_view process);

} // namespace dtrain::mpi
