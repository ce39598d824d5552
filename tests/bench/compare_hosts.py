#!/usr/bin/python3
"""Descent steps on two hosts, beside what compute and the link between them allow, and beside PyTorch.

  tests/bench/compare_hosts.py --data data/mnist [--rate 1gbit] [--rounds 3] [--networks 784-800-10,...] [--json FILE]

The hosts are network namespaces of this machine, with a core each and a link of limited rate. No step can be shorter
than what one rank computes in it, measured alone with its half of the batch, nor than its gradients take through the
link, whose speed is measured as well: on n hosts each has to send and receive 2 (n-1)/n of their bytes. A perfect
overlap of both would take the larger of the two. PyTorch trains the same network in DistributedDataParallel over gloo.

Wants root, the release build, Debian's python3-torch and iproute2, and a machine with two cores and nothing else to
do; where the machine allows no namespaces it says so and ends with code 77. Everything is measured in turns, ratios are
taken within a round, and medians over rounds; the table is Markdown.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import comparing  # also where the folder of network_hosts gets among the paths
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
while time.perf_counter() - begin < 0.3:  # until the window is open
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


def step_seconds(figures):
    return figures["batch_size"] / figures["samples_per_second"]["median"]


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
        """Bytes per second that TCP brings from the first host to the second."""
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

    def values(self, figures):
        values = {key: step_seconds(figures[key]) for key in ("compute", "dtrain", "pytorch")}
        bytes_each = 2 * (HOSTS - 1) / HOSTS * 4 * figures["dtrain"]["parameters"]
        values["transfer"] = bytes_each / figures["goodput"]
        values["bound"] = max(values["compute"], values["transfer"])
        values["goodput"] = figures["goodput"]
        return values

    def told(self, values):
        return f"{super().told(values)}, {values['goodput'] * 8e-6:.0f} Mbit/s"


def mca_setting(text):
    name, _, value = text.partition("=")
    return name, value


def main():
    parser = comparing.option_parser(__doc__.splitlines()[0], DEFAULT_NETWORKS)
    parser.add_argument("--rate", default="1gbit", help="of the link, as tc has it (1gbit)")
    parser.add_argument("--mca", type=mca_setting, action="append", default=[], metavar="NAME=VALUE",
                        help="a parameter of Open MPI, to try what it does; may be repeated")
    options = comparing.parse_options(parser)
    if reason := network_hosts.why_not(options.rate):
        comparing.skip(reason)

    with tempfile.TemporaryDirectory(prefix="dtrain-compare-") as folder, \
            network_hosts.NetworkHosts(HOSTS, rate=options.rate, pinned=True) as hosts:
        comparison = Comparison(options, folder, hosts)
        comparison.measure()
    dtrain, pytorch = comparison.figures["dtrain"], comparison.figures["pytorch"]
    goodput = comparing.spread([values["goodput"] * 8e-6 for done in comparison.rounds.values() for _, values in done])
    congestion_control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    print(f"dtrain {dtrain['dtrain_version']} ({dtrain['arithmetic']}), PyTorch {pytorch['torch_version']} over gloo; "
          f"{HOSTS} hosts with a rank and a core each of {os.cpu_count()}; a link of {options.rate}, through which TCP "
          "({}) brings {median:.0f} ({min:.0f} to {max:.0f}) Mbit/s. ".format(congestion_control, **goodput)
          + f"Rounds: {options.rounds}; medians, and for ratios least and most.\n")
    print(comparison.table("ms/step"))
    comparison.write_json(rate=options.rate, hosts=HOSTS)


if __name__ == "__main__":
    main()
