#pragma once

#include <cstddef>
#include <optional>

namespace dtrain::core {

/// A terminal that takes escape sequences.
struct Terminal {
    std::size_t columns = 80;
};

/// The terminal that the user sees standard output on, if it is one: neither a file nor a pipe nor TERM=dumb. Of a rank
/// of Open MPI, which gives every rank a pseudo-terminal of its own whatever becomes of the output, it is that of
/// mpirun, however many scripts stand between.
[[nodiscard]] std::optional<Terminal> output_terminal();
/// The same for standard error.
[[nodiscard]] std::optional<Terminal> error_terminal();

} // namespace dtrain::core
