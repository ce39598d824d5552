#include "dtrain/mpi/launcher.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace dtrain::mpi {
namespace {

using Variables = std::map<std::string, std::string>;

auto lookup_in(const Variables& variables) {
    return [&variables](const char* name) {
        const auto found = variables.find(name);
        return found == variables.end() ? nullptr : found->second.c_str();
    };
}
Launch launch_of(const Variables& variables) {
    return find_launch(lookup_in(variables));
}

struct Case {
    const char* name;
    Variables variables;
    int rank;
    int processes;
    int reporter;
    const char* evidence;
};

TEST(FindLaunch, RecognisesEachLauncher) {
    const Case cases[] = {
        {"by hand", {}, 0, 1, 0, ""},
        {"mpirun",
         {{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "3"}},
         3,
         4,
         0,
         "OMPI_COMM_WORLD_SIZE = 4"},
        {"MPICH's Hydra, in a Slurm step with one task per node",
         {{"PMI_RANK", "2"}, {"PMI_SIZE", "4"}, {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}},
         2,
         4,
         0,
         "PMI_SIZE = 4"},
        {"PALS, rank 0, without a number of ranks", {{"PALS_RANKID", "0"}}, 0, 1, 1, "PALS_RANKID = 0"},
        {"PALS, rank 1", {{"PALS_RANKID", "1"}}, 1, 2, 1, "PALS_RANKID = 1"},
        {"a Slurm step",
         {{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_NTASKS", "4"}},
         1,
         4,
         0,
         "SLURM_STEP_NUM_TASKS = 4"},
        {"srun --mpi=pmix",
         {{"PMIX_RANK", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}},
         0,
         4,
         0,
         "SLURM_STEP_NUM_TASKS = 4"},
        {"only the number of tasks of a step", {{"SLURM_STEP_NUM_TASKS", "4"}}, 0, 4, 0, "SLURM_STEP_NUM_TASKS = 4"},
        {"a batch script in an allocation of several tasks",
         {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}},
         0,
         1,
         1,
         "SLURM_PROCID = 0"},
        {"mpirun -np 1 in a Slurm step of four tasks",
         {{"OMPI_COMM_WORLD_RANK", "0"},
          {"OMPI_COMM_WORLD_SIZE", "1"},
          {"SLURM_PROCID", "2"},
          {"SLURM_STEP_NUM_TASKS", "4"}},
         0,
         1,
         0,
         "OMPI_COMM_WORLD_SIZE = 1"},
        {"singletons allowed", {{"PMI_RANK", "2"}, {"PMI_SIZE", "4"}, {"DTRAIN_ALLOW_SINGLETONS", "1"}}, 0, 1, 0, ""},
        {"values that are not numbers", {{"PMI_RANK", ""}, {"PMI_SIZE", "many"}}, 0, 1, 0, ""},
    };
    for (const Case& expected : cases) {
        const Launch launch = launch_of(expected.variables);
        EXPECT_EQ(launch.rank, expected.rank) << expected.name;
        EXPECT_EQ(launch.processes, expected.processes) << expected.name;
        EXPECT_EQ(launch.reporter, expected.reporter) << expected.name;
        EXPECT_EQ(launch.evidence, expected.evidence) << expected.name;
    }
}

TEST(FindLaunch, KnowsProcessesWithoutALauncher) {
    const auto alone = [](const Variables& variables) { return is_alone(lookup_in(variables)); };
    EXPECT_TRUE(alone({}));
    EXPECT_TRUE(alone({{"SLURM_NTASKS", "4"}, {"PATH", "/bin"}}));
    for (const char* const rank : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PALS_RANKID", "ALPS_APP_PE", "FLUX_TASK_RANK",
                                   "PMIX_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}) {
        EXPECT_FALSE(alone({{rank, "1"}})) << rank;
    }
    EXPECT_FALSE(alone({{"OMPI_COMM_WORLD_RANK", "0"}, {"DTRAIN_ALLOW_SINGLETONS", "1"}}));
    EXPECT_FALSE(alone({{"DTRAIN_ALLOW_SINGLETONS", "1"}}));
}

} // namespace
} // namespace dtrain::mpi
