#include "program.hpp"

#include "dtrain/core/terminal.hpp"
#include "dtrain/mpi/launcher.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace dtrain::apps {

bool take(Words& words, const std::string& word) {
    return std::erase(words, word) > 0;
}

Words words_of(int argc, char** argv) {
    return {argv + 1, argv + argc};
}

config::Config read_config(Words words, const char* usage) {
    const auto file = std::ranges::find_if(words, [](const auto& word) { return !word.starts_with("-"); });
    if (file == words.end()) {
        throw core::Error(core::ExitCode::bad_config, fmt::format("no config file given\n{}", usage));
    }
    const std::string name = *file;
    words.erase(file);
    return config::load(name, words);
}

config::Config load_config(const Words& words, const char* usage, const mpi::Communicator& communicator) {
    config::Config config;
    std::string resolved;
    mpi::together(communicator, [&] {
        if (communicator.is_root()) {
            config = read_config(words, usage);
            resolved = config.resolved();
        }
    });
    resolved = communicator.broadcast(std::move(resolved));
    if (!communicator.is_root()) {
        config = config::parse_resolved(resolved, "config");
    }
    return config;
}

void finish_output() {
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        throw core::Error(core::ExitCode::bad_output,
                          fmt::format("cannot write to standard output: {}", std::strerror(errno)));
    }
}

int answer(const char* name, const std::function<void()>& action) {
    if (mpi::find_launch(std::getenv).rank > 0) {
        return 0;
    }
    try {
        action();
        finish_output();
        return 0;
    } catch (...) {
        const core::Error error = core::current_error();
        core::print_error("{}: {}\n", name, error.what());
        return static_cast<int>(error.code());
    }
}

namespace {

/// Collective. Ranks of one job with different configs would train something else than each of these says.
void require_same_words(const Words& words, const mpi::Communicator& communicator) {
    const auto separator = std::string(1, '\0');
    const std::string own = fmt::format("{}", fmt::join(words, separator));
    const bool same = communicator.broadcast(own) == own;
    mpi::together(communicator, [&] {
        if (!same) {
            throw core::Error(core::ExitCode::bad_config,
                              fmt::format("rank {} has other arguments than rank 0 ({}): give all ranks the same ones",
                                          communicator.rank(), fmt::join(words, " ")));
        }
    });
}

} // namespace

int run_program(int argc, char** argv, const char* name, const char* usage,
                const std::function<core::ExitCode(Words, const mpi::Communicator&)>& run) {
    Words words = words_of(argc, argv);
    const bool version = take(words, "--version");
    if (version || take(words, "--help") || take(words, "-h")) {
        return answer(name, [&] { fmt::print("{}", version ? "dtrain " DTRAIN_VERSION "\n" : usage); });
    }
    const mpi::Launch launch = mpi::find_launch(std::getenv); // now, as MPI sets variables of its own
    const mpi::Environment environment(argc, argv);
    const mpi::Communicator world = mpi::Communicator::world();
    // Processes that do not know of each other would each do all of the work. One on a terminal was started by hand, as
    // from the shell that srun --pty makes of the first of several tasks.
    if (world.size() == 1 && launch.processes > 1 && isatty(STDIN_FILENO) == 0) {
        if (launch.rank == launch.reporter) {
            core::print_error(
                "{}: the launcher started several processes ({}), but not as ranks of this program's MPI, so that "
                "each would do all of the work: start them by the mpirun of the Open MPI it was built with, or by srun "
                "--mpi=pmix if it was built for that, or set DTRAIN_ALLOW_SINGLETONS=1 if each is to run by "
                "itself\n",
                name, launch.evidence);
        }
        return static_cast<int>(core::ExitCode::bad_config);
    }
    try {
        require_same_words(words, world);
        const core::ExitCode code = run(std::move(words), world);
        mpi::together(world, [&] {
            if (world.is_root()) {
                finish_output();
            }
        });
        world.barrier(); // mpirun ends all ranks when the first one exits with another code than 0
        return static_cast<int>(code);
    } catch (const mpi::AgreedError& error) {
        if (world.is_root()) {
            core::print_error("{}: {}\n", name, error.what());
        }
        world.barrier();
        return static_cast<int>(error.code());
    } // any other exception ends the job (mpi::Environment)
}

} // namespace dtrain::apps
