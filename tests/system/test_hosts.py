"""Ranks on several hosts connected by TCP: network namespaces of this machine, if it allows them."""

import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402
import network_hosts  # noqa: E402

# Ranks on each host.
LAYOUTS = ((1, 1), (2, 1), (1, 1, 1))
# Large enough that the exchange between hosts uses Open MPI's TCP protocols for large messages.
SETTINGS = {"model.layers": "dense 300 relu, dense 10", "model.cost": "cross_entropy",
            "training.learning_rate": 0.01, "training.optimizer": "momentum"}
STALL_SECONDS = 2
# Ranks on each host, and the host whose link is taken down.
CUT_OFF = (((2, 1), 1), ((1, 1, 1), 3))


class HostsTest(testing.DtrainTestCase):
    @classmethod
    def setUpClass(cls):
        if reason := network_hosts.why_not():
            raise unittest.SkipTest(reason)
        super().setUpClass()

    def start(self, hosts, ranks, settings):
        # More ranks than cores. mpirun does not notice this, because it sees several hosts.
        words = [*hosts.mpirun(ranks), "--mca", "mpi_yield_when_idle", "1", str(testing.BIN / "dtrain"),
                 str(self.write_config(settings))]
        return testing.Process(words, self.folder)

    def train_on(self, hosts, ranks, settings):
        with self.start(hosts, ranks, settings) as process:
            result = process.wait(testing.TIMEOUT_SECONDS)
            self.assertEqual(result.code, testing.EXIT_OK, result)
        return testing.Training(self.folder / "run", result)

    def test_hosts_do_not_change_the_result(self):
        expected = self.train(SETTINGS, output="one")
        for ranks in LAYOUTS:
            with self.case(ranks=ranks), network_hosts.NetworkHosts(len(ranks)) as hosts:
                actual = self.train_on(hosts, ranks, SETTINGS)
                self.assert_same_result(actual, expected)
                self.assertEqual(actual.log().attributes["nodes"], len(ranks))

    def test_link_down(self):
        """It is reported with the names of the hosts, and the run continues when the link is up again."""
        settings = {**SETTINGS, "training.epochs": 12, "parallel.stall_timeout": STALL_SECONDS,
                    "output.checkpoint_every": "7 steps"}
        undisturbed = self.train(settings, output="one")
        for ranks, down in CUT_OFF:
            with self.case(ranks=ranks, down=down), network_hosts.NetworkHosts(len(ranks)) as hosts:
                with self.start(hosts, ranks, settings) as process:
                    process.wait_for(r"epoch +3/")
                    hosts.set_data_link(down, "down")
                    begin = time.monotonic()
                    result = process.wait(STALL_SECONDS + 20)
                    seconds = time.monotonic() - begin
                self.assertEqual(result.code, testing.EXIT_RANK_LOST, result)
                self.assertEqual(result.stderr.count("dtrain: "), 1, result)
                others = ", ".join(rf"rank {sum(ranks[:host])} on host{host + 1}" for host in range(1, len(ranks)))
                self.assertRegex(result.stderr, rf"dtrain: all ranks on host1 have waited for another node "
                                                rf"\({others}\) for {STALL_SECONDS} seconds, rank 0 last seen in "
                                                r"step \d+, .* or the network does not reach it\. ")
                self.assertLess(seconds, STALL_SECONDS + 8, result)

                hosts.set_data_link(down, "up")
                resumed = self.train_on(hosts, ranks, settings)
                self.assertIn("resumed", resumed.result.stdout)
                self.assert_same_result(resumed, undisturbed)


if __name__ == "__main__":
    testing.main()
