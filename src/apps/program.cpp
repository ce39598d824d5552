#include "program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace dtrain::apps {

bool take(Words& words, const std::string& word) {
    return std::erase(words, word) > 0;
}

config::Config load_config(const Words& words, const char* usage, const mpi::Communicator& communicator) {
    config::Config config;
    std::string resolved;
    mpi::together(communicator, [&] {
        Words overrides = words;
        const auto file = std::ranges::find_if(overrides, [](const auto& word) { return !word.starts_with("-"); });
        if (file == overrides.end()) {
            throw core::Error(core::ExitCode::bad_config, fmt::format("no config file given\n{}", usage));
        }
        const std::string name = *file;
        overrides.erase(file);
        if (communicator.is_root()) {
            config = config::load(name, overrides);
            resolved = config.resolved();
        }
    });
    resolved = communicator.broadcast(std::move(resolved));
    if (!communicator.is_root()) {
        config = config::parse(resolved, "config");
    }
    return config;
}

int run_program(int argc, char** argv, const char* name, const char* usage,
                const std::function<core::ExitCode(Words, const mpi::Communicator&)>& run) {
    const mpi::Environment environment(argc, argv);
    const mpi::Communicator world = mpi::Communicator::world();
    Words words(argv + 1, argv + argc);
    try {
        core::ExitCode code = core::ExitCode::ok;
        const bool version = take(words, "--version");
        if (version || take(words, "--help") || take(words, "-h")) {
            if (world.is_root()) {
                fmt::print("{}", version ? "dtrain " DTRAIN_VERSION "\n" : usage);
            }
        } else {
            code = run(std::move(words), world);
        }
        std::fflush(stdout);
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
