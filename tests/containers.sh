#!/usr/bin/env bash
# Builds the images of slurm/containers as their first lines say, and uses every program in them.
#     tests/containers.sh [podman | docker | apptainer ...]     default: podman
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

(($# > 0)) || set -- podman
work=$PWD/build/containers
image=$work/dtrain.sif
inside() { # COMMAND...: runs it in a container, in the folder $work
    case $engine in
    podman) podman run --rm --volume "$work:/work" dtrain-test "$@" ;;
    docker) docker run --rm --user "$(id -u):$(id -g)" --volume "$work:/work" dtrain-test "$@" ;;
    apptainer) (cd -- "$work" && apptainer exec "$image" "$@") ;;
    esac
}

train=(dtrain /usr/share/dtrain/configs/synthetic.ini --training.epochs=2 --output.resume=never)
for engine in "$@"; do
    rm -rf -- "$work"
    mkdir -p -- "$work"
    case $engine in
    podman | docker) "$engine" build -t dtrain-test -f slurm/containers/Containerfile . ;;
    apptainer) apptainer build "$image" slurm/containers/dtrain.def ;;
    *)
        printf 'tests/containers.sh: unknown program %s: expected podman, docker or apptainer\n' "$engine" >&2
        exit 2
        ;;
    esac
    for program in dtrain dtrain-eval dtrain-bench dtrain-report; do
        inside "$program" --version
    done
    inside "${train[@]}" --output.directory=one | tee "$work/one.txt"
    inside mpirun --oversubscribe -np 2 "${train[@]}" --output.directory=two | tee "$work/two.txt"
    weights=$(grep '^weights' "$work/one.txt")
    grep -qxF -- "$weights" "$work/two.txt"
    inside dtrain-eval two --show 1
    inside dtrain-bench /usr/share/dtrain/configs/synthetic.ini --steps 1
    inside dtrain-report one two
    test -s "$work/report.html"
    printf 'tests/containers.sh: %s: built and used\n' "$engine"
done
