#include "program.hpp"

#include "dtrain/core/nearest.hpp"
#include "dtrain/core/terminal.hpp"
#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/mpi/launcher.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace dtrain::apps {

bool take(Words& words, const std::string& word) {
    return std::erase(words, word) > 0;
}

Words words_of(int argc, char** argv) {
    return {argv + 1, argv + argc};
}

bool asks_for_text(const Words& words) {
    return std::ranges::any_of(
        words, [](const auto& word) { return word == "--help" || word == "-h" || word == "--version"; });
}

namespace {

/// The option in `usage` that `word` probably stands for. A word with a value stands only for an option with a value.
std::optional<std::string> nearest_option(const std::string& word, const std::string& usage) {
    const std::size_t equals = word.find('=');
    std::vector<std::string> options;
    for (std::size_t begin = usage.find("--"); begin != std::string::npos; begin = usage.find("--", begin + 2)) {
        const std::size_t end = usage.find_first_not_of("abcdefghijklmnopqrstuvwxyz-", begin);
        const bool is_key = usage.compare(end, 1, ".") == 0;
        const bool has_value = usage.compare(end, 2, " N") == 0 || usage.compare(end, 2, " F") == 0;
        if (!is_key && (equals == std::string::npos || has_value)) {
            options.push_back(usage.substr(begin, end - begin));
        }
    }
    return core::nearest(word.substr(0, equals), options);
}

} // namespace

core::Error unknown_option(const std::string& word, const std::string& usage) {
    const auto near = nearest_option(word, usage);
    return {core::ExitCode::bad_config,
            fmt::format("unknown option {}; {}", word,
                        near ? fmt::format("did you mean {}?", *near) : "--help lists the options")};
}

config::Config read_config(Words words, const char* usage) {
    const auto file = std::ranges::find_if(words, [](const auto& word) { return !word.starts_with("-"); });
    for (const std::string& word : words) {
        const bool is_key = word.substr(0, word.find('=')).find('.') != std::string::npos;
        if (word.starts_with("-") && !is_key && (file == words.end() || nearest_option(word, usage))) {
            throw unknown_option(word, usage);
        }
    }
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

/// Collective. If the ranks had different arguments, the job would train something that no command line describes.
void require_same_words(const Words& words, const mpi::Communicator& communicator) {
    const auto separator = std::string(1, '\0');
    const std::string own = fmt::format("{}", fmt::join(words, separator));
    const bool same = communicator.broadcast(own) == own;
    mpi::together(communicator, [&] {
        if (!same) {
            throw core::Error(
                core::ExitCode::bad_config,
                fmt::format("rank {} has other arguments than rank 0 ({}): give all ranks the same arguments",
                            communicator.rank(), fmt::join(words, " ")));
        }
    });
}

/// Collective. All ranks use the fastest instruction set that every rank has.
void agree_on_instruction_set(const mpi::Communicator& communicator) {
    std::vector<int> votes(kernels::tables().size());
    mpi::together(communicator, [&] { std::fill_n(votes.begin(), kernels::choose_table() + 1, 1); });
    communicator.sum(std::span(votes));
    kernels::use_table(static_cast<std::size_t>(std::ranges::count(votes, communicator.size())) - 1);
}

} // namespace

int run_program(int argc, char** argv, const char* name, const char* usage,
                const std::function<core::ExitCode(Words, const mpi::Communicator&)>& run) {
    Words words = words_of(argc, argv);
    if (asks_for_text(words)) {
        const bool asks_for_version = take(words, "--version");
        return answer(name, [&] { asks_for_version ? fmt::print("dtrain {}\n", version()) : fmt::print("{}", usage); });
    }
    const mpi::Launch launch = mpi::find_launch(std::getenv); // before MPI starts, which sets such variables itself
    const mpi::Environment environment(argc, argv);
    const mpi::Communicator world = mpi::Communicator::world();
    // Processes of another MPI do not find each other, and each would do all of the work. A process on a terminal was
    // started by hand, for example from the shell of srun --pty, which is one of several tasks.
    if (world.size() == 1 && launch.processes > 1 && isatty(STDIN_FILENO) == 0) {
        if (launch.rank == launch.reporter) {
            core::print_error(
                "{}: the launcher started several processes ({}), but not as ranks of this program's MPI: each would "
                "do all of the work. Use the mpirun of the MPI that built dtrain, or srun --mpi=pmix if that "
                "is an Open MPI with PMIx. Set DTRAIN_ALLOW_SINGLETONS=1 to run each process on its own\n",
                name, launch.evidence);
        }
        return static_cast<int>(core::ExitCode::bad_config);
    }
    try {
        require_same_words(words, world);
        agree_on_instruction_set(world);
        const core::ExitCode code = run(std::move(words), world);
        mpi::together(world, [&] {
            if (world.is_root()) {
                finish_output();
            }
        });
        world.barrier(); // mpirun ends all ranks as soon as one exits with a code other than 0
        return static_cast<int>(code);
    } catch (const mpi::AgreedError& error) {
        if (world.is_root()) {
            core::print_error("{}: {}\n", name, error.what());
        }
        world.barrier();
        return static_cast<int>(error.code());
    } // mpi::Environment ends the job on any other exception
}

} // namespace dtrain::apps
