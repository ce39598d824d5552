# Functions for the batch scripts of this folder, which source this file. It computes how many ranks fit into the job
# and defines `launch`, which starts a program on them, and `train_and_requeue`.
#
# mpirun starts the ranks, not srun. Inside a batch script mpirun reads the nodes from Slurm's variables and starts its
# daemons there, with any build of Open MPI. `srun --mpi=pmix` works only with an Open MPI that was built with Slurm's
# PMIx, and Debian's was not.
#
#   DTRAIN_MPIRUN         mpirun with its options (default: mpirun, and options that give each rank its cores)
#   DTRAIN_MOST_FAILURES  failures in a row without a new checkpoint, after which a job ends (default: 3)
set -uo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

for name in SLURM_JOB_ID SLURM_JOB_NODELIST SLURM_JOB_CPUS_PER_NODE; do
    [[ ${!name:-} ]] || die 2 "this script runs only inside a Slurm job, and $name is not set: submit it with sbatch"
done
[[ -x $bin/dtrain ]] ||
    die 2 "no program $bin/dtrain: build dtrain, or set DTRAIN_BIN to the folder of the programs"
# The name of this one job for scontrol: in an array, SLURM_JOB_ID may stand for the whole array.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

# Each rank gets one core, or --cpus-per-task cores, and consecutive ranks share a node. Only options do this in every
# version: the variables of Open MPI 4 mean nothing to Open MPI 5.
mpi=$(mpi_name)
if [[ ! ${DTRAIN_MPIRUN:-} ]]; then
    case $mpi in
    openmpi) mpirun+=(--map-by "slot:PE=${SLURM_CPUS_PER_TASK:-1}" --bind-to core) ;;
    mpich) mpirun+=(-bind-to "core:${SLURM_CPUS_PER_TASK:-1}") ;;
    esac
fi

# Prints the number of ranks on each node, for example 32,32,16 if Slurm's variable is 64(x2),32. This is the number of
# tasks from --ntasks or --ntasks-per-node, or else one rank per core, even if Slurm counts hardware threads as CPUs.
ranks_per_node() {
    local cores
    cores=$(lscpu --parse=core,socket | grep -v '^#' | sort -u | wc -l)
    awk -v list="${SLURM_NTASKS:+$SLURM_TASKS_PER_NODE}" -v cpus="$SLURM_JOB_CPUS_PER_NODE" -v cores="$cores" \
        -v threads="${SLURM_CPUS_PER_TASK:-1}" 'BEGIN {
        count = split(list ? list : cpus, groups, ",")
        for (i = 1; i <= count; ++i) {
            split(groups[i], group, /\(x|\)/)
            ranks = list ? group[1] : int((group[1] < cores ? group[1] : cores) / threads)
            for (n = group[2] ? group[2] : 1; n > 0; --n) {
                printf "%s%d", separator, (ranks > 0 ? ranks : 1)
                separator = ","
            }
        }
    }'
}

# mpirun computes the slots of a node as SLURM_TASKS_PER_NODE times SLURM_CPUS_PER_TASK.
SLURM_TASKS_PER_NODE=$(ranks_per_node)
unset SLURM_CPUS_PER_TASK
ranks=$((${SLURM_TASKS_PER_NODE//,/+}))

# Slurm sends SIGUSR1 before the time limit and SIGTERM at the end of a job. Both stop the ranks: mpirun forwards
# SIGUSR1 to them.
stop_requested=
interrupted=
mpirun_pid=
on_stop() {
    stop_requested=yes interrupted=yes
    [[ -z $mpirun_pid ]] || kill -USR1 "$mpirun_pid" 2>/dev/null
}
trap on_stop USR1 TERM

launch() { # PROGRAM ARGUMENT...: returns what mpirun returns
    local status
    "${mpirun[@]}" -np "$ranks" "$bin/$1" "${@:2}" &
    mpirun_pid=$!
    # The signal may have arrived before mpirun was started.
    [[ ! $stop_requested ]] || kill -USR1 "$mpirun_pid" 2>/dev/null
    while :; do
        interrupted=
        wait "$mpirun_pid"
        # If mpirun ends while Bash 5.2 handles a signal, Bash may lose its status. `wait` then sets $? to -1, which
        # would leave this function as 255.
        status=$(($? & 255))
        # A signal ends `wait` early, so wait again. Bash keeps the status of a process that has ended.
        [[ $interrupted ]] || break
    done
    mpirun_pid=
    # After a signal MPICH's mpirun returns 0 or another code by chance, whatever the ranks returned. So the run counts
    # as stopped. If it was complete, the next start finds nothing left to do and ends the job. The same holds for 255,
    # because the real status may be lost, and for 128 + SIGUSR1: the signal came before mpirun or a rank handled it.
    [[ ! $stop_requested || ($mpi == openmpi && $status != 255 && $status != 138) ]] || status=75
    return $status
}

resolve() { # CONFIG [OVERRIDE...]: sets $resolved to the complete config; a bad config ends the job
    local code
    resolved=$("$bin/dtrain" "$@" --print-config) && return
    code=$?
    [[ $stop_requested ]] || exit $code
}

newest_checkpoint() { # OUTPUT: prints its path, or nothing if there is none
    local checkpoints=("$1"/checkpoints/step-*.h5)
    [[ ! -e ${checkpoints[-1]} ]] || printf '%s\n' "${checkpoints[-1]}"
}

# Requeues the job and ends it. A job that is no longer RUNNING is left alone: it is being cancelled, or Slurm itself is
# requeueing it.
requeue() { # CODE REASON
    local state
    local tries=5
    until state=$(scontrol --oneliner show job "$job" | grep -o '\bJobState=[A-Z_]*') || ((--tries == 0)); do
        sleep 2 # the controller may be busy
    done
    [[ $state == JobState=RUNNING ]] || die "$1" "$2; not requeued by this script, since Slurm reports $state"
    say "$2; requeueing job $job"
    scontrol requeue "$job" || say "scontrol cannot requeue job $job: submit it again to resume"
    exit "$1"
}

# Trains on all ranks and ends the job. The job is requeued if it was stopped, or if a node or rank failed. It is not
# requeued after errors that would repeat: bad config, data or checkpoint, divergence, or output that cannot be written.
# It also ends after several failed starts in a row that wrote no new checkpoint.
train_and_requeue() { # CONFIG [OVERRIDE...]
    local status=75 output shards newest failures count=0
    # --output.resume=never holds for the first start only: a requeued job has to resume.
    ((${SLURM_RESTART_COUNT:-0} == 0)) || set -- "$@" --output.resume=auto
    resolve "$@"
    [[ ! $stop_requested ]] || requeue 75 "stopped before the first training step"

    shards=$(setting parallel.logical_shards)
    if ((ranks > shards)); then
        say "warning: this job has room for $ranks ranks, but parallel.logical_shards = $shards: using $shards." \
            "Add --parallel.logical_shards=$ranks to use all; this changes the results"
        ranks=$shards
    fi
    output=$(setting output.directory)
    newest=$(newest_checkpoint "$output")
    say "job $job, start $((${SLURM_RESTART_COUNT:-0} + 1)): $ranks ranks on $SLURM_JOB_NODELIST," \
        "${newest:+resuming from }${newest:-from scratch}"

    launch dtrain "$@"
    status=$?
    failures=$output/slurm-$SLURM_JOB_ID.failures
    case $status in
    0 | 2 | 3 | 4 | 5 | 6)
        rm -f -- "$failures"
        exit $status
        ;;
    esac
    if [[ $newest != "$(newest_checkpoint "$output")" ]]; then
        rm -f -- "$failures"
    else
        [[ ! -e $failures ]] || count=$(<"$failures")
        count=$((count + 1))
        if ((count >= ${DTRAIN_MOST_FAILURES:-3})); then
            rm -f -- "$failures"
            die $status "ended with code $status: $count starts in a row failed without a new checkpoint." \
                "The job is not requeued: fix the cause reported above, then submit it again"
        fi
        mkdir -p -- "$output" && printf '%d\n' $count >"$failures"
    fi
    requeue $status "ended with code $status"
}
