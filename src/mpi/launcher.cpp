#include "dtrain/mpi/launcher.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstring>
#include <optional>

namespace dtrain::mpi {
namespace {

struct Launcher {
    const char* rank;
    const char* size; ///< null if there is no such variable
};

/// A launcher that another launcher may start comes first. For example, mpirun may run inside a Slurm step.
constexpr std::array launchers{
    Launcher{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, // Open MPI
    Launcher{"MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"},   // MVAPICH
    Launcher{"PMI_RANK", "PMI_SIZE"},                         // Hydra (MPICH, Intel MPI), PALS, srun --mpi=pmi2
    Launcher{"PALS_RANKID", nullptr},                         // PALS (HPE Cray)
    Launcher{"ALPS_APP_PE", nullptr},                         // ALPS (Cray)
    Launcher{"FLUX_TASK_RANK", "FLUX_JOB_SIZE"},              // Flux
    Launcher{"PMIX_RANK", nullptr},                           // PRRTE, srun --mpi=pmix
    // SLURM_STEP_NUM_TASKS is the number of tasks of a step. SLURM_NTASKS belongs to the allocation and is also set in
    // batch scripts.
    Launcher{"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},
};

std::optional<int> number(const char* text) {
    int value = 0;
    if (text == nullptr || std::from_chars(text, text + std::strlen(text), value).ec != std::errc()) {
        return std::nullopt;
    }
    return value;
}

} // namespace

Launch find_launch(const std::function<const char*(const char* name)>& variable) {
    Launch launch;
    if (const char* const allowed = variable("DTRAIN_ALLOW_SINGLETONS"); allowed && std::strcmp(allowed, "1") == 0) {
        return launch;
    }
    for (const Launcher& launcher : launchers) {
        if (const auto rank = number(variable(launcher.rank))) {
            launch = {*rank, *rank + 1, 1, fmt::format("{} = {}", launcher.rank, *rank)};
            break;
        }
    }
    for (const Launcher& launcher : launchers) {
        if (const auto size = launcher.size == nullptr ? std::nullopt : number(variable(launcher.size))) {
            return {launch.rank, *size, 0, fmt::format("{} = {}", launcher.size, *size)};
        }
    }
    return launch;
}

bool is_alone(const std::function<const char*(const char* name)>& variable) {
    return find_launch(variable).evidence.empty() && variable("DTRAIN_ALLOW_SINGLETONS") == nullptr;
}

} // namespace dtrain::mpi
