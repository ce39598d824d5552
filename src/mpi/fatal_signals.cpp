#include "dtrain/mpi/fatal_signals.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>

namespace dtrain::mpi {
namespace {

struct FatalSignal {
    int number;
    const char* meaning;
    std::array<char, 512> message{}; ///< complete, because a signal handler may not format it
    std::size_t length = 0;
};

std::array<FatalSignal, 4> fatal_signals{{
    {SIGQUIT, "a request to quit"},
    {SIGILL, "an instruction that this CPU does not have"},
    {SIGTRAP, "a breakpoint"},
    {SIGABRT, "abort(), which MPI libraries call if they lose another rank"},
}};

void handle(int number) {
    for (const FatalSignal& fatal : fatal_signals) {
        if (fatal.number == number) {
            [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, fatal.message.data(), fatal.length);
        }
    }
    kill(getpid(), SIGKILL);
}

} // namespace

void end_by_kill_on_fatal_signals(std::string_view process) {
    for (FatalSignal& fatal : fatal_signals) {
        const auto end =
            fmt::format_to_n(fatal.message.data(), fatal.message.size(), "{}: {}: ended by signal {}, {}\n",
                             program_invocation_short_name, process, fatal.number, fatal.meaning);
        fatal.length = static_cast<std::size_t>(end.out - fatal.message.data());
        struct sigaction action {};
        action.sa_handler = handle;
        sigemptyset(&action.sa_mask);
        sigaction(fatal.number, &action, nullptr);
    }
}

} // namespace dtrain::mpi
