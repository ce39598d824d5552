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
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import compare_pytorch as compare

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import network_hosts  # noqa: E402

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

TIMES = {"dtrain": "dtrain", "compute": "one rank's compute", "transfer": "bytes / bandwidth",
         "bound": "larger of both", "pytorch": "PyTorch DDP"}
RATIOS = {
    "to_bound": ("dtrain / larger of both", lambda t: t["dtrain"] / t["bound"]),
    "to_pytorch": ("dtrain / PyTorch", lambda t: t["dtrain"] / t["pytorch"]),
}


def step_seconds(figures):
    return figures["batch_size"] / figures["samples_per_second"]["median"]


class Comparison:
    def __init__(self, options, hosts, folder):
        self.hosts, self.sides = hosts, compare.Sides(options, folder)
        self.mpirun = [*hosts.mpirun([1] * HOSTS), *(word for setting in options.mca for word in ("--mca", *setting))]

    def goodput(self):
        """Bytes per second that TCP brings from the first host to the second."""
        address = [self.hosts.address(2), str(PORT)]
        with subprocess.Popen([*self.hosts.enter(2), sys.executable, "-c", RECEIVER, *address],
                              stdout=subprocess.PIPE, text=True) as receiver:
            receiver.stdout.readline()
            compare.run([*self.hosts.enter(1), sys.executable, "-c", SENDER, *address, str(GOODPUT_SECONDS)], {})
            return float(receiver.stdout.readline())

    def compute(self, network):
        share = dataclasses.replace(network, batch=network.batch // HOSTS)
        return self.sides.dtrain(share, 1, self.hosts.enter(1))

    def dtrain(self, network):
        return self.sides.dtrain(network, HOSTS, self.mpirun)

    def pytorch(self, network):
        return self.sides.pytorch(network, self.mpirun, {"MASTER_ADDR": self.hosts.address(1), "MASTER_PORT": str(PORT),
                                                         "GLOO_SOCKET_IFNAME": "data"})

    def round(self, name, backwards):
        """Every other round goes backwards, so that none is favoured."""
        network = compare.NETWORKS[name]
        turns = [("compute", lambda: self.compute(network)), ("dtrain", lambda: self.dtrain(network)),
                 ("goodput", self.goodput), ("pytorch", lambda: self.pytorch(network))]
        figures = {key: measure() for key, measure in (reversed(turns) if backwards else turns)}
        values = {key: step_seconds(figures[key]) for key in ("compute", "dtrain", "pytorch")}
        bytes_each = 2 * (HOSTS - 1) / HOSTS * 4 * figures["dtrain"]["parameters"]
        values["transfer"] = bytes_each / figures["goodput"]
        values["bound"] = max(values["compute"], values["transfer"])
        values |= {key: ratio(values) for key, (_, ratio) in RATIOS.items()}
        values["goodput"] = figures["goodput"]
        return figures, values


def table(results):
    """Medians in Markdown; ratios with the least and the largest of the rounds."""
    heads = ["network, batch", *(f"{head}, ms/step" for head in TIMES.values()), *(head for head, _ in RATIOS.values())]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, result in results.items():
        cells = [f"{name}, {compare.NETWORKS[name].batch}"]
        cells += [f"{result[key]['median'] * 1e3:.4g}" for key in TIMES]
        cells += ["{median:.2f} ({min:.2f} to {max:.2f})".format(**result[key]) for key in RATIOS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mca_setting(text):
    name, _, value = text.partition("=")
    return name, value


def main():
    parser = compare.option_parser(__doc__.splitlines()[0], DEFAULT_NETWORKS)
    parser.add_argument("--rate", default="1gbit", help="of the link, as tc has it (1gbit)")
    parser.add_argument("--mca", type=mca_setting, action="append", default=[], metavar="NAME=VALUE",
                        help="a parameter of Open MPI, to try what it does; may be repeated")
    options = compare.parse_options(parser)
    if reason := network_hosts.why_not(options.rate):
        compare.skip(reason)

    rounds = {name: [] for name in options.networks}
    with tempfile.TemporaryDirectory(prefix="dtrain-compare-") as folder, \
            network_hosts.NetworkHosts(HOSTS, rate=options.rate, pinned=True) as hosts:
        comparison = Comparison(options, hosts, Path(folder))
        for number in range(options.rounds):
            for name in options.networks:
                figures, values = comparison.round(name, backwards=number % 2 == 1)
                rounds[name].append((figures, values))
                print(f"round {number + 1} of {options.rounds}, {name}: "
                      + ", ".join(f"{head} {values[key] * 1e3:.4g}" for key, head in TIMES.items())
                      + f" ms/step, {values['goodput'] * 8e-6:.0f} Mbit/s", file=sys.stderr, flush=True)

    results = {name: {key: compare.spread([values[key] for _, values in done])
                      for key in (*TIMES, *RATIOS, "goodput")} for name, done in rounds.items()}
    dtrain, pytorch = figures["dtrain"], figures["pytorch"]
    goodput = compare.spread([values["goodput"] * 8e-6 for done in rounds.values() for _, values in done])
    congestion_control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    print(f"dtrain {dtrain['dtrain_version']} ({dtrain['arithmetic']}), PyTorch {pytorch['torch_version']} over gloo; "
          f"{HOSTS} hosts with a rank and a core each of {os.cpu_count()}; a link of {options.rate}, through which TCP "
          "({}) brings {median:.0f} ({min:.0f} to {max:.0f}) Mbit/s. ".format(congestion_control, **goodput)
          + f"Rounds: {options.rounds}; medians, and for ratios least and most.\n")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps({
            "rounds": options.rounds, "rate": options.rate, "hosts": HOSTS, "cores": os.cpu_count(),
            "networks": {name: {**results[name], "rounds": [figures for figures, _ in done]}
                         for name, done in rounds.items()}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
