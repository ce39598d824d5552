"""Several hosts on one machine: network namespaces, with real TCP between them.

Each host has its own host name, network interfaces, /dev/shm and semaphores. All hosts share the file system, as hosts
of a cluster do, and the machine's cores. There are two networks, as on many clusters. Ranks communicate through `data`.
It may have a limited rate, and its links can be taken down. mpirun communicates with its daemons through `control`.

All processes on all hosts are in one namespace of process ids. Its first process, the switch, reads from a pipe until
the pipe is closed. When the switch ends, the kernel ends all processes on all hosts and removes all interfaces. This
works even if the test is killed, because nothing has a name that could outlive it.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import dtrain_testing as testing

TOOLS = ("hostname", "ip", "mount", "nsenter", "taskset", "tc", "unshare")
SUBNETS = {"data": "10.77.0", "control": "10.78.0"}
# With less the link does not reach its rate, because packets come in groups of 64 kB. More would pass at once, at any
# rate.
BURST = "128kb"
LATENCY = "20ms"
SETUP_TIMEOUT_SECONDS = 20

SWITCH = """
for network in data control; do
    ip link add $network type bridge
    ip link set $network up
done
echo ready
exec cat >/dev/null
"""
# The other end of each cable is in the network namespace of process 1, the switch.
HOST = """
mount -t tmpfs tmpfs /dev/shm
hostname host$1
ip link set lo up
for network in data:$2 control:$3; do
    cable=${network%%:*}
    ip link add $cable type veth peer name $cable$1 netns 1
    ip address add ${network#*:}.$1/24 dev $cable
    ip link set $cable up
done
echo $$
exec sleep infinity
"""


class NoHosts(Exception):
    """This machine does not allow network hosts. The message has the reason."""


class NetworkHosts:
    """Hosts are numbered from 1, and host N is called hostN. A context manager: it removes everything at its end."""

    def __init__(self, count, *, rate=None, pinned=False):
        """`rate`, such as "1gbit", limits each data link in each direction; `pinned` gives each host one core."""
        self._pinned = pinned
        self._pids = []  # one per host, as seen by processes on the hosts
        self._processes = []
        self._folder = tempfile.TemporaryDirectory(prefix="dtrain-hosts-")
        try:
            self._set_up(count, rate)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._processes:
            switch = self._processes[0]
            switch.stdin.close()
            try:
                switch.wait(SETUP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                switch.kill()
        for process in self._processes:
            process.wait(SETUP_TIMEOUT_SECONDS)
            process.stdout.close()
        self._processes = []
        self._folder.cleanup()

    def enter(self, host):
        """The command prefix that runs a command on a host, in the folder /."""
        return [*self._enter_switch(), *self._enter_from_switch(host)]

    def address(self, host, network="data"):
        return f"{SUBNETS[network]}.{host}"

    def mpirun(self, ranks):
        """The command prefix of mpirun on the first host, with ranks[i] ranks on host i + 1, in this order."""
        slots = ",".join(f"{self.address(host, 'control')}:{count}" for host, count in enumerate(ranks, 1))
        parameters = {"plm": "rsh", "plm_rsh_agent": str(self._agent), "btl": "self,vader,tcp",
                      "btl_tcp_if_include": SUBNETS["data"] + ".0/24",
                      "oob_tcp_if_include": SUBNETS["control"] + ".0/24",
                      "orte_tmpdir_base": "/dev/shm"}  # it disappears with its host
        return [*self.enter(1), testing.MPIRUN, *(word for name, value in parameters.items()
                                                  for word in ("--mca", name, value)),
                "-host", slots, "-np", str(sum(ranks))]

    def set_data_link(self, host, state):
        """`state` "down" pulls the cable out of the switch, "up" plugs it in."""
        self._run([*self._enter_switch(), "ip", "link", "set", f"data{host}", state])

    @property
    def _agent(self):
        return Path(self._folder.name) / "agent"

    def _set_up(self, count, rate):
        self._start(["unshare", "--net", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-euc",
                     SWITCH], stdin=subprocess.PIPE)
        for host in range(1, count + 1):
            self._pids.append(self._start([*self._enter_switch(), "unshare", "--net", "--uts", "--ipc", "--mount", "sh",
                                           "-euc", HOST, "host", str(host), *SUBNETS.values()]))
            for network in SUBNETS:
                self._run([*self._enter_switch(), "ip", "link", "set", f"{network}{host}", "master", network, "up"])
            if rate is not None:
                limit = ["root", "tbf", "rate", rate, "burst", BURST, "latency", LATENCY]
                self._run([*self.enter(host), "tc", "qdisc", "add", "dev", "data", *limit])
                self._run([*self._enter_switch(), "tc", "qdisc", "add", "dev", f"data{host}", *limit])
        cases = "\n".join(f"{self.address(host, 'control')}) exec {' '.join(self._enter_from_switch(host))} "
                          'sh -c "$*" ;;' for host in range(1, count + 1))
        self._agent.write_text(f'#!/bin/sh\nhost=$1\nshift\ncase $host in\n{cases}\nesac\n')
        self._agent.chmod(0o755)

    def _enter_switch(self):
        pid = self._processes[0].pid
        return ["nsenter", f"--target={pid}", "--net", "--mount", f"--pid=/proc/{pid}/ns/pid_for_children"]

    def _enter_from_switch(self, host):
        pin = ["taskset", "--cpu-list", str(self._core(host))] if self._pinned else []
        return ["nsenter", f"--target={self._pids[host - 1]}", "--net", "--uts", "--ipc", "--mount", *pin]

    @staticmethod
    def _core(host):
        cores = sorted(os.sched_getaffinity(0))
        return cores[(host - 1) % len(cores)]

    def _start(self, words, stdin=subprocess.DEVNULL):
        """Starts a process that stays. Returns the line that it prints when it is ready."""
        with tempfile.TemporaryFile() as stderr:
            process = subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr)
            self._processes.append(process)
            line = process.stdout.readline().decode().strip()
            if not line:
                stderr.seek(0)
                raise NoHosts(stderr.read().decode().strip() or f"no answer from {words[0]}")
            return line

    @staticmethod
    def _run(words):
        result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=SETUP_TIMEOUT_SECONDS)
        if result.returncode != 0:
            raise NoHosts(result.stderr.strip())


def why_not(rate=None):
    """The reason why this machine allows no such hosts, or None."""
    if os.geteuid() != 0:
        return "namespaces for hosts need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"no {', '.join(missing)} (Debian: iproute2, util-linux, hostname)"
    try:
        with NetworkHosts(2, rate=rate):
            return None
    except NoHosts as problem:
        return f"no namespaces for hosts: {problem}"
