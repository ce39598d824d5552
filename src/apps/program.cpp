#include "program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
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
    for (const char* const rank : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
        if (const char* const number = std::getenv(rank)) {
            if (std::string_view(number) != "0") {
                return 0;
            }
            break;
        }
    }
    try {
        action();
        finish_output();
        return 0;
    } catch (...) {
        const core::Error error = core::current_error();
        fmt::print(stderr, "{}: {}\n", name, error.what());
        return static_cast<int>(error.code());
    }
}

int run_program(int argc, char** argv, const char* name, const char* usage,
                const std::function<core::ExitCode(Words, const mpi::Communicator&)>& run) {
    Words words = words_of(argc, argv);
    const bool version = take(words, "--version");
    if (version || take(words, "--help") || take(words, "-h")) {
        return answer(name, [&] { fmt::print("{}", version ? "dtrain " DTRAIN_VERSION "\n" : usage); });
    }
    const mpi::Environment environment(argc, argv);
    const mpi::Communicator world = mpi::Communicator::world();
    try {
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
            fmt::print(stderr, "{}: {}\n", name, error.what());
        }
        world.barrier();
        return static_cast<int>(error.code());
    } // any other exception ends the job (mpi::Environment)
}

} // namespace dtrain::apps
