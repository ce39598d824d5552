# What the batch scripts of this folder share; they source it. It finds out how many ranks the allocation has room for
# and defines `launch`, which starts a program on them, and `train_and_requeue`.
#
# Ranks are started by Open MPI's mpirun, not by srun: mpirun inside a batch script learns the nodes from Slurm and
# starts its daemons there by srun itself, with any build of Open MPI, whereas `srun --mpi=pmix` wants one that was
# built with Slurm's own PMIx, which Debian's, among others, was not.
#
#   DTRAIN_BIN            folder of the programs (build/release/bin)
#   DTRAIN_MOST_FAILURES  starts in a row without a new checkpoint after which a job is not requeued any more (3)
set -uo pipefail
source slurm/common.sh

DTRAIN_BIN=${DTRAIN_BIN:-build/release/bin}

[[ ${SLURM_JOB_ID:-} ]] || die 2 "this is a batch script: submit it with sbatch"
[[ -x $DTRAIN_BIN/dtrain ]] || die 2 "no $DTRAIN_BIN/dtrain in $PWD: build it, or set DTRAIN_BIN"
# What scontrol calls this job alone; the number of an array's job stands for the whole array.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

# One thread for OpenBLAS; a core (or --cpus-per-task of them) for each rank, and ranks that follow each other side by
# side. Whoever knows better sets these variables before.
export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
export OMPI_MCA_rmaps_base_mapping_policy=${OMPI_MCA_rmaps_base_mapping_policy:-slot:PE=${SLURM_CPUS_PER_TASK:-1}}
export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-core}

# Ranks on each node: the tasks that were asked for by --ntasks or --ntasks-per-node; otherwise one for each core, also
# where Slurm counts the hardware threads of a core as CPUs. Prints a list like 32,32,16 from Slurm's 64(x2),32.
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

# From these mpirun takes the slots of the nodes, which it multiplies by the CPUs of a task.
SLURM_TASKS_PER_NODE=$(ranks_per_node)
unset SLURM_CPUS_PER_TASK
ranks=$((${SLURM_TASKS_PER_NODE//,/+}))

# Slurm's notice before the time limit (SIGUSR1) and the end of a job's life (SIGTERM) both ask the ranks to stop, by
# way of mpirun, which hands SIGUSR1 on to them.
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
    mpirun -np "$ranks" "$DTRAIN_BIN/$1" "${@:2}" &
    mpirun_pid=$!
    # One that came before there was a process to hand it to.
    [[ ! $stop_requested ]] || kill -USR1 "$mpirun_pid" 2>/dev/null
    while :; do
        interrupted=
        wait "$mpirun_pid"
        status=$?
        # A signal ends `wait` early; of a process that has ended bash keeps the status.
        [[ $interrupted ]] || break
    done
    mpirun_pid=
    return $status
}

resolve() { # CONFIG [OVERRIDE...]: the config as dtrain understands it; a bad one ends the job
    local code
    resolved=$("$DTRAIN_BIN/dtrain" "$@" --print-config) && return
    code=$?
    [[ $stop_requested ]] || exit $code
}

newest_checkpoint() { # OUTPUT: prints nothing when there is none
    local checkpoints=("$1"/checkpoints/step-*.h5)
    [[ ! -e ${checkpoints[-1]} ]] || printf '%s\n' "${checkpoints[-1]}"
}

# Puts the job back into the queue and ends it. A job that is no longer RUNNING is being cancelled, or requeued by Slurm
# itself, and left alone.
requeue() { # CODE REASON
    local state
    local tries=5
    until state=$(scontrol --oneliner show job "$job" | grep -o '\bJobState=[A-Z_]*') || ((--tries == 0)); do
        sleep 2 # the controller is busy
    done
    [[ $state == JobState=RUNNING ]] || die "$1" "$2; not requeued by itself: $state"
    say "$2; requeueing job $job"
    scontrol requeue "$job" || say "cannot requeue job $job"
    exit "$1"
}

# Trains on all ranks and ends the job. It is requeued when it was stopped, and when it failed by the fault of a node or
# of a rank; a failure that would repeat ends it: bad config, data or checkpoint, divergence, output that cannot be
# written, and starts in a row that came to no new checkpoint.
train_and_requeue() { # CONFIG [OVERRIDE...]
    local status=75 output shards newest failures count=0
    # Begin anew at most once.
    ((${SLURM_RESTART_COUNT:-0} == 0)) || set -- "$@" --output.resume=auto
    resolve "$@"
    [[ ! $stop_requested ]] || requeue 75 "stopped before the first step"

    shards=$(setting parallel.logical_shards)
    if ((ranks > shards)); then
        say "warning: room for $ranks ranks, but parallel.logical_shards = $shards allows for $shards only;" \
            "more logical shards, of which results depend on the number, use them all"
        ranks=$shards
    fi
    output=$(setting output.directory)
    newest=$(newest_checkpoint "$output")
    say "job $job, start $((${SLURM_RESTART_COUNT:-0} + 1)): $ranks ranks on $SLURM_JOB_NODELIST," \
        "from ${newest:-the beginning}"

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
            die $status "ended with code $status; $count starts in a row came to no new checkpoint: not requeued"
        fi
        mkdir -p -- "$output" && printf '%d\n' $count >"$failures"
    fi
    requeue $status "ended with code $status"
}
