#!/usr/bin/env bash
# Tries the Debian package: builds it, installs it in a bare root of Debian 12, uses every program as an ordinary user,
# and removes it again. Needs root and debootstrap. The root is made in build/package and removed at the end.
#     tests/package.sh [MIRROR]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

root=$PWD/build/package
in_root() { # COMMAND...
    unshare --mount --pid --fork --mount-proc="$root/proc" chroot "$root" env -i \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

rm -rf -- build/release/dtrain_*.deb "$root"
./quickstart.sh package
trap 'rm -rf -- "$root"' EXIT
debootstrap --variant=minbase bookworm "$root" "$@"
cp build/release/dtrain_*.deb "$root/tmp"
in_root apt-get update
in_root apt-get install --yes --no-install-recommends man-db
in_root bash -c 'apt-get install --yes --no-install-recommends /tmp/dtrain_*.deb'
in_root dpkg --verify dtrain
in_root useradd --create-home user

in_root runuser --login user -- -ex <<'END'
for program in dtrain dtrain-eval dtrain-bench dtrain-export dtrain-report; do
    $program --version
    man $program | grep -q 'EXIT STATUS'
done
small="--data.train_samples=500 --data.test_samples=100 --training.epochs=2"
mpirun --oversubscribe -np 2 dtrain /usr/share/dtrain/configs/synthetic.ini $small --output.directory=run
dtrain-eval run --show 1
dtrain-report run
test -s report.html
dtrain-export run -o model.onnx
test -s model.onnx
share=/usr/share/dtrain
$share/slurm/scaling.sh $share/configs/synthetic.ini $small --local --ranks 1 --repeats 1 --steps 1
dtrain-report runs/scaling-synthetic.h5 -o scaling.html
END

# As root, Python writes compiled modules next to their sources.
in_root dtrain-report /home/user/run -o /tmp/report.html
in_root apt-get purge --yes dtrain
left=$(in_root find / -xdev -path /proc -prune -o -path /tmp -prune -o -name '*dtrain*' -print)
[[ ! $left ]] || {
    printf 'tests/package.sh: these files are left after the removal:\n%s\n' "$left" >&2
    exit 1
}
printf 'tests/package.sh: installed, used and removed %s\n' build/release/dtrain_*.deb
