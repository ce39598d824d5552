#!/usr/bin/env -S sh -c 'exec "${DTRAIN_PYTHON:-/usr/bin/python3}" -E "$0" "$@"'
"""Compares training steps on two hosts with the limits of compute and network, and with PyTorch.

  tests/bench/compare_hosts.py --data data/mnist [--rate 1gbit] [--rounds 3] [--networks 784-800-10,...] [--json FILE]

The hosts are network namespaces of this machine. Each has one core, and the link between them has a limited rate. Two
times bound a step from below: the compute time of one rank alone with half of the batch, and the time of the gradients
on the link. On n hosts each host sends and receives 2 (n-1)/n of the bytes of the gradients; the speed of the link is
measured too. A perfect overlap takes the larger of the two times. PyTorch trains the same network with
DistributedDataParallel over gloo.

Needs root, the release build, Debian's python3-torch and iproute2, and an idle machine with two cores. If the machine
does not allow namespaces, the program prints a message and ends with code 77. All measurements alternate. Ratios are
taken within a round, and medians over the rounds. Prints a Markdown table.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import comparing  # adds the folder of network_hosts to the path
import network_hosts

HOSTS = 2
PORT = 29511
DEFAULT_NETWORKS = ["784-800-10", "784-2500-2000-1500-1000-500-10"]

GOODPUT_SECONDS = 2.0
RECEIVER = """
import socket, sys, time
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
connection, _ = server.accept()
buffer = bytearray(1 << 20)
begin = time.perf_counter()
while time.perf_counter() - begin < 0.3:  # skip the start of TCP
    connection.recv_into(buffer)
begin, received = time.perf_counter(), 0
while count := connection.recv_into(buffer):
    received += count
print(received / (time.perf_counter() - begin))
"""
SENDER = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
begin = time.perf_counter()
while time.perf_counter() - begin < float(sys.argv[3]):
    connection.sendall(bytes(1 << 20))
"""


def step_seconds(results):
    return results["batch_size"] / results["samples_per_second"]["median"]


class Comparison(comparing.Comparison):
    columns = {"dtrain": "dtrain", "compute": "one rank's compute", "transfer": "bytes / bandwidth",
               "bound": "larger of both", "pytorch": "PyTorch DDP"}
    scale, unit = 1e3, "ms/step"
    ratios = {
        "to_bound": ("dtrain / larger of both", lambda t: t["dtrain"] / t["bound"]),
        "to_pytorch": ("dtrain / PyTorch", lambda t: t["dtrain"] / t["pytorch"]),
    }

    def __init__(self, options, folder, hosts):
        super().__init__(options, folder)
        self.hosts = hosts
        self.mpirun = [*hosts.mpirun([1] * HOSTS), *(word for setting in options.mca for word in ("--mca", *setting))]

    def goodput(self):
        """Bytes per second over TCP from the first host to the second."""
        address = [self.hosts.address(2), str(PORT)]
        with subprocess.Popen([*self.hosts.enter(2), sys.executable, "-c", RECEIVER, *address],
                              stdout=subprocess.PIPE, text=True) as receiver:
            receiver.stdout.readline()
            comparing.run([*self.hosts.enter(1), sys.executable, "-c", SENDER, *address, str(GOODPUT_SECONDS)], {})
            return float(receiver.stdout.readline())

    def compute(self, network):
        share = dataclasses.replace(network, batch=network.batch // HOSTS)
        return self.sides.dtrain(share, 1, self.hosts.enter(1))

    def dtrain(self, network):
        return self.sides.dtrain(network, HOSTS, self.mpirun)

    def pytorch(self, network):
        return self.sides.pytorch(network, self.mpirun, {"MASTER_ADDR": self.hosts.address(1), "MASTER_PORT": str(PORT),
                                                         "GLOO_SOCKET_IFNAME": "data"})

    def turns(self, network):
        return {"compute": lambda: self.compute(network), "dtrain": lambda: self.dtrain(network),
                "goodput": self.goodput, "pytorch": lambda: self.pytorch(network)}

    def values(self, results):
        values = {key: step_seconds(results[key]) for key in ("compute", "dtrain", "pytorch")}
        bytes_each = 2 * (HOSTS - 1) / HOSTS * 4 * results["dtrain"]["parameters"]
        values["transfer"] = bytes_each / results["goodput"]
        values["bound"] = max(values["compute"], values["transfer"])
        values["goodput"] = results["goodput"]
        return values

    def summary(self, values):
        return f"{super().summary(values)}, {values['goodput'] * 8e-6:.0f} Mbit/s"


def mca_setting(text):
    name, _, value = text.partition("=")
    return name, value


def main():
    parser = comparing.option_parser(__doc__.splitlines()[0], DEFAULT_NETWORKS)
    parser.add_argument("--rate", default="1gbit", help="rate of the link, in the format of tc (default: %(default)s)")
    parser.add_argument("--mca", type=mca_setting, action="append", default=[], metavar="NAME=VALUE",
                        help="set a parameter of Open MPI; may be repeated")
    options = comparing.parse_options(parser)
    if reason := network_hosts.why_not(options.rate):
        comparing.skip(reason)

    with tempfile.TemporaryDirectory(prefix="dtrain-compare-") as folder, \
            network_hosts.NetworkHosts(HOSTS, rate=options.rate, pinned=True) as hosts:
        comparison = Comparison(options, folder, hosts)
        comparison.measure()
    dtrain, pytorch = comparison.last_round["dtrain"], comparison.last_round["pytorch"]
    goodput = comparing.spread([values["goodput"] * 8e-6 for done in comparison.rounds.values() for _, values in done])
    congestion_control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    print(f"dtrain {dtrain['dtrain_version']} ({dtrain['arithmetic']}), PyTorch {pytorch['torch_version']} over gloo; "
          f"{HOSTS} hosts with one rank and one core each of {os.cpu_count()}; a link of {options.rate}, over which "
          "TCP ({}) transfers {median:.0f} ({min:.0f} to {max:.0f}) Mbit/s. ".format(congestion_control, **goodput)
          + f"Rounds: {options.rounds}; medians, and for ratios also min and max.\n")
    print(comparison.table("ms/step"))
    comparison.write_json(rate=options.rate, hosts=HOSTS)


if __name__ == "__main__":
    main()
