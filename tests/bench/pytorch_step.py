#!/usr/bin/env -S sh -c 'exec "${DTRAIN_PYTHON:-/usr/bin/python3}" -E "$0" "$@"'
"""Times training steps in PyTorch, as dtrain-bench does for dtrain.

  OMP_NUM_THREADS=1 [mpirun -np 2] tests/bench/pytorch_step.py 'dense 16 relu, dense 10' --batch 128 --data data/mnist

The training set is loaded into memory as float tensors first. A step takes samples in random order, computes
cross-entropy and its gradient, and updates the parameters with plain SGD. On several ranks the model uses
DistributedDataParallel over gloo, and each rank computes its part of the batch. Prints one line of JSON; rates are
medians over blocks of steps.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.distributed
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402
import pytorch_network  # noqa: E402

BLOCKS = 9  # the same as in dtrain-bench
BLOCK_SECONDS = 0.3


def load_samples(directory, rank, ranks):
    """This rank's images, as floats from 0 to 1, and labels."""
    images, labels = (torch.from_numpy(testing.read_idx(testing.find_idx(directory, key))[rank::ranks].copy())
                      for key in ("train_images", "train_labels"))
    return images.unsqueeze(1).float() / 255, labels.long()


class Stepper:
    """Takes any number of steps, across epochs. An incomplete batch at the end of an epoch is skipped."""

    def __init__(self, network, samples, batch, learning_rate):
        self.network, self.batch = network, batch
        self.images, self.labels = samples
        self.cost = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
        self.batches = iter(())

    def next_batch(self):
        rows = next(self.batches, None)
        if rows is None:
            whole = len(self.labels) // self.batch * self.batch
            self.batches = iter(torch.randperm(len(self.labels))[:whole].split(self.batch))
            rows = next(self.batches)
        return rows

    def step(self):
        rows = self.next_batch()
        self.optimizer.zero_grad(set_to_none=True)
        cost = self.cost(self.network(self.images[rows]), self.labels[rows])
        cost.backward()
        self.optimizer.step()
        return cost


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="layers, as in a config")
    parser.add_argument("--batch", type=int, required=True, help="samples per step, over all ranks")
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--data", default=testing.MNIST, help="folder of MNIST (default: $DTRAIN_MNIST)")
    options = parser.parse_args()
    if not options.data:
        parser.error("no data set: give --data or set DTRAIN_MNIST")
    rank, ranks = (int(os.environ.get(f"OMPI_COMM_WORLD_{what}", alone)) for what, alone in (("RANK", 0), ("SIZE", 1)))
    if options.batch < 1 or options.batch % ranks:
        parser.error(f"--batch {options.batch}: expected a multiple of the {ranks} ranks")

    torch.set_num_threads(1)
    torch.manual_seed(1)  # the same parameters everywhere
    network = pytorch_network.build(options.network)
    if ranks > 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29511")
        torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
        network = nn.parallel.DistributedDataParallel(network)
    torch.manual_seed(1 + rank)
    stepper = Stepper(network, load_samples(options.data, rank, ranks), options.batch // ranks, options.learning_rate)

    def block_seconds(steps):
        """Seconds of the slowest rank."""
        if ranks > 1:
            torch.distributed.barrier()
        begin = time.perf_counter()
        for _ in range(steps):
            cost = stepper.step()
        seconds = torch.tensor([time.perf_counter() - begin], dtype=torch.float64)
        if ranks > 1:
            torch.distributed.all_reduce(seconds, torch.distributed.ReduceOp.MAX)
        if not torch.isfinite(cost):
            sys.exit(f"pytorch_step.py: the cost is {cost.item()} with learning rate {options.learning_rate}")
        return seconds.item()

    block_seconds(2)
    steps = 1
    while (seconds := block_seconds(steps)) < BLOCK_SECONDS / 3:
        steps *= 2
    steps = max(1, round(BLOCK_SECONDS * steps / seconds))
    rates = [steps * options.batch / block_seconds(steps) for _ in range(BLOCKS)]
    if rank == 0:
        with open("/proc/self/maps") as maps:
            blas = sorted({Path(line.split()[-1]).name for line in maps if "blas" in line})
        print(json.dumps({"torch_version": torch.__version__, "blas": blas, "ranks": ranks, "network": options.network,
                          "batch_size": options.batch, "steps_per_block": steps,
                          "samples_per_second": {"median": statistics.median(rates), "min": min(rates),
                                                 "max": max(rates)}}), flush=True)


if __name__ == "__main__":
    main()
