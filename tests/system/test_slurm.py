"""Slurm jobs, on a real Slurm with two nodes on this machine: disturbances of a job do not change its result.

Open MPI must be told that its nodes are one machine. The environment of this test does so, not the scripts.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
SCRIPTS = testing.SOURCE / "slurm"
PATH = os.environ.get("PATH", "") + ":/usr/sbin"

# Two seconds or less on two ranks.
SETTINGS = {"model.layers": "dense 200 relu, dense 10", "model.cost": "cross_entropy", "training.learning_rate": 0.05,
            "training.batch_size": 100, "training.epochs": 150, "output.checkpoint_every": "10 epochs"}

CONFIGURATION = """
ClusterName=dtrain
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
MpiDefault=none
KillWait=5
SlurmdTimeout=10
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def die_with_parent():
    """In a child, before its program starts: the child must not outlive this test, however the test ends."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition, what, timeout=60):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.05)


class Cluster:
    """munged, slurmctld and two slurmd. All their files are in `folder`."""

    def __init__(self, folder):
        self.folder = folder
        self.daemons = {}
        self.environment = {**testing.environment(), "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf"),
                            "OMPI_MCA_btl": "tcp,self", "OMPI_MCA_btl_tcp_if_include": "lo",
                            "DTRAIN_BIN": str(testing.BIN)}

    def start(self):
        folder, munge = self.folder, self.folder / "munge"
        folder.chmod(0o755)  # munged is not root, but needs access to its folder
        for path in (munge, *(folder / name for name in ("state", "spool-n1", "spool-n2"))):
            path.mkdir(mode=0o755)
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o400)
        for path in (munge, munge / "key"):
            shutil.chown(path, "munge")
        (folder / "slurm.conf").write_text(CONFIGURATION.format(
            folder=folder, host=socket.gethostname().partition(".")[0], ports=free_ports(3)))
        self.start_daemon("munged", "munged", "--foreground", "--force",
                          *(f"--{what}={munge}/{name}" for what, name in (
                              ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"),
                              ("seed-file", "seed"))), user="munge")
        wait_until((munge / "socket").exists, "munged's socket")
        self.start_daemon("slurmctld", "slurmctld", "-D")
        for node in ("n1", "n2"):
            self.start_node(node)
        wait_until(lambda: self.command("sinfo", "--noheader", "--format=%T %D", check=False).strip() == "idle 2",
                   lambda: self.command("sinfo", check=False) + (folder / "slurmctld.log").read_text())

    def start_daemon(self, name, *words, user=None):
        path = shutil.which(words[0], path=PATH)
        with open(self.folder / f"{name}.out", "ab") as output:
            self.daemons[name] = subprocess.Popen([path, *words[1:]], env=self.environment, stdout=output,
                                                  stderr=output, stdin=subprocess.DEVNULL, user=user,
                                                  preexec_fn=die_with_parent)

    def start_node(self, node):
        self.start_daemon(node, "slurmd", "-D", "-N", node)

    def processes(self, *variables):
        """Ids of all processes that have this cluster and `variables` in their environment, except the daemons."""
        wanted = {f"SLURM_CONF={self.folder}/slurm.conf", *variables}
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if wanted <= set(path.read_bytes().decode(errors="replace").split("\0")):
                    found.append(int(path.parent.name))
        return [pid for pid in found if pid not in {daemon.pid for daemon in self.daemons.values()}]

    def kill_node(self, node):
        """As in a power failure: kills the daemon and all its descendants."""
        self.daemons[node].kill()
        for pid in self.processes(f"SLURMD_NODENAME={node}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.daemons.pop(node).wait()

    def stop(self):
        with contextlib.suppress(AssertionError):
            self.command("scancel", "--user=root", check=False)
            wait_until(lambda: not self.command("squeue", "--noheader", check=False), "an empty queue", 10)
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def command(self, *words, check=True, environment=None):
        result = subprocess.run(words, env={**self.environment, **(environment or {})}, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL, timeout=120)
        if check and result.returncode != 0:
            raise AssertionError(f"{words}: code {result.returncode}\n{result.stdout}")
        return result.stdout


class Job:
    def __init__(self, cluster, output, *words, environment=None):
        self.cluster, self.output = cluster, output
        self.id = cluster.command("sbatch", "--parsable", f"--output={output}", *map(str, words),
                                  environment=environment).strip()

    def field(self, name, task=None):
        shown = self.cluster.command("scontrol", "--oneliner", "show", "job", self.id if task is None else task)
        return re.search(rf"\b{name}=(\S*)", shown)[1]

    def state(self):
        return self.field("JobState")

    def restarts(self):
        return int(self.field("Restarts"))

    def rank_pids(self):
        return [pid for pid in self.cluster.processes(f"SLURM_JOB_ID={self.id}")
                if Path(f"/proc/{pid}/comm").read_text() == "dtrain\n"]

    def text(self):
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def __str__(self):
        return self.cluster.command("scontrol", "show", "job", self.id) + self.text()

    def wait_for(self, pattern):
        wait_until(lambda: re.search(pattern, self.text()), lambda: f"{pattern!r} in\n{self}")

    def wait_for_end(self):
        """Waits until the job is neither running nor pending, and shortens the delay of a requeued job. The delay is
        not 0, because Slurm cannot start a job again in the second in which it ended."""
        hastened = 0

        def has_ended():
            nonlocal hastened
            state = self.state()
            if state == "PENDING" and self.field("Reason") == "BeginTime" and self.restarts() > hastened:
                hastened = self.restarts()
                self.cluster.command("scontrol", "update", f"JobId={self.id}", "StartTime=now+2seconds")
            return state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED")
        wait_until(has_ended, lambda: f"the end of\n{self}", 120)
        return self.state()


class RanksTest(unittest.TestCase):
    """Number and placement of ranks, from Slurm's variables for an allocation."""

    def ranks(self, cores, **variables):
        with tempfile.TemporaryDirectory(prefix="dtrain-test-") as folder:
            lscpu = Path(folder) / "lscpu"
            lscpu.write_text("#!/bin/sh\necho '# a comment'\n" +
                             "".join(f"echo {core},{core % 2}\n" * 2 for core in range(cores)))
            lscpu.chmod(0o755)
            clean = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
            result = subprocess.run(
                ["bash", "-c", 'source slurm/job.sh && echo "$ranks $SLURM_TASKS_PER_NODE"'], cwd=testing.SOURCE,
                env={**clean, "PATH": f"{folder}:{PATH}", "DTRAIN_BIN": str(testing.BIN), "SLURM_JOB_ID": "1",
                     "SLURM_JOB_NODELIST": "n1", **variables}, stdout=subprocess.PIPE, text=True, check=True)
            return result.stdout.strip()

    def test_ranks(self):
        self.assertEqual(self.ranks(32, SLURM_JOB_CPUS_PER_NODE="32(x2),16"), "80 32,32,16")
        # Each core has two hardware threads, and Slurm counts threads.
        self.assertEqual(self.ranks(32, SLURM_JOB_CPUS_PER_NODE="64(x3)"), "96 32,32,32")
        self.assertEqual(self.ranks(32, SLURM_JOB_CPUS_PER_NODE="64", SLURM_CPUS_PER_TASK="4"), "8 8")
        # The job asks for a number of ranks.
        self.assertEqual(self.ranks(32, SLURM_JOB_CPUS_PER_NODE="64(x2)", SLURM_NTASKS="7",
                                    SLURM_TASKS_PER_NODE="4,3", SLURM_CPUS_PER_TASK="4"), "7 4,3")


@unittest.skipUnless(os.geteuid() == 0, "Slurm's daemons are started by root alone")
@unittest.skipUnless(all(shutil.which(program, path=PATH) for program in PROGRAMS), "Slurm or munge is not installed")
class SlurmTest(testing.DtrainTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory(prefix="dtrain-slurm-")
        cls.addClassCleanup(folder.cleanup)
        cls.cluster = Cluster(Path(folder.name))
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.start()
        cls.reference = Path(folder.name) / "reference"

    def undisturbed(self):
        """The same training by itself on this machine, done once for all tests."""
        if not (self.reference / "log.h5").exists():
            self.train({**SETTINGS, "output.directory": self.reference}, ranks=2)
        return testing.Training(self.reference, None)

    def submit(self, *words, config=None, script="train.sbatch", environment=None):
        return Job(self.cluster, self.folder / "job.out", *words[:1], SCRIPTS / script,
                   config or self.write_config(SETTINGS), *words[1:], environment=environment)

    def check_result(self, job, *, restarts):
        self.assertEqual(job.wait_for_end(), "COMPLETED", job)
        self.assertEqual(job.restarts(), restarts, job)
        self.assert_same_result(testing.Training(self.folder / "run", None), self.undisturbed())
        starts = re.findall(r"^slurm: job .*", job.text(), re.MULTILINE)
        self.assertEqual(len(starts), restarts + 1, job)
        for start in starts[1:]:
            self.assertRegex(start, r"resuming from .*step-\d+\.h5$")
        self.assertEqual([path.name for path in (self.folder / "run").glob("checkpoints*")], ["checkpoints"], job)
        return starts

    def test_two_nodes(self):
        start, = self.check_result(self.submit("--nodes=2"), restarts=0)
        self.assertIn("2 ranks on n[1-2], from scratch", start)

    def test_installed_scripts(self):
        """They find dtrain and their functions from where they are, and an edited copy finds them by the PATH."""
        tree = self.folder / "a tree"
        (tree / "bin").mkdir(parents=True)
        shutil.copy(testing.BIN / "dtrain", tree / "bin")
        shutil.copytree(SCRIPTS, tree / "share/dtrain/slurm")
        shutil.copy(SCRIPTS / "train.sbatch", self.folder / "edited.sbatch")
        for script, path in ((tree / "share/dtrain/slurm/train.sbatch", PATH),
                             (self.folder / "edited.sbatch", f"{tree}/bin:{PATH}")):
            with self.subTest(script.name), contextlib.chdir(self.folder):  # not in the repository, which has scripts
                job = Job(self.cluster, self.folder / f"{script.stem}.out", "--nodes=1", f"--chdir={self.folder}",
                          script, self.write_config(SETTINGS, script.stem), "--training.epochs=1",
                          environment={"DTRAIN_BIN": "", "PATH": path})
                self.assertEqual(job.wait_for_end(), "COMPLETED", job)
                self.assertTrue((self.folder / script.stem / "log.h5").exists(), job)

    def test_requeued_by_slurm(self):
        job = self.submit("--nodes=2")
        job.wait_for(r"epoch +30/")
        self.cluster.command("scontrol", "requeue", job.id)
        self.check_result(job, restarts=1)

    def test_before_the_time_limit(self):
        job = self.submit("--nodes=2", "--output.resume=never")
        job.wait_for(r"epoch +25/")
        self.cluster.command("scancel", "--batch", "--signal=USR1", job.id)
        self.check_result(job, restarts=1)
        self.assertIn("ended with code 75; requeueing", job.text())

    def test_lost_node(self):
        job = self.submit("--nodes=1-2")
        job.wait_for(r"epoch +30/")
        self.cluster.kill_node("n2")
        try:
            self.cluster.command("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=lost")
            starts = self.check_result(job, restarts=1)
            self.assertIn("2 ranks on n[1-2]", starts[0])
            self.assertIn("1 ranks on n1", starts[1])
        finally:
            self.cluster.start_node("n2")
            self.cluster.command("scontrol", "update", "NodeName=n2", "State=RESUME")
            wait_until(lambda: self.cluster.command("sinfo", "--noheader", "--format=%T %D").strip() == "idle 2",
                       lambda: self.cluster.command("sinfo"))

    def test_lost_rank(self):
        """Also if the signal has the number of an exit code, as that of abort() has."""
        job = self.submit("--nodes=2")
        job.wait_for(r"epoch +30/")
        os.kill(job.rank_pids()[0], signal.SIGABRT)
        self.check_result(job, restarts=1)
        self.assertRegex(job.text(), r"ended with code \d+; requeueing")

    def test_cancelled(self):
        job = self.submit("--nodes=2")
        job.wait_for(r"epoch +10/")
        self.cluster.command("scancel", job.id)
        self.assertEqual(job.wait_for_end(), "CANCELLED")
        wait_until(lambda: not self.cluster.processes(f"SLURM_JOB_ID={job.id}"), "the end of its processes")
        self.assertEqual((job.state(), job.restarts()), ("CANCELLED", 0), job)

    def test_failures_that_repeat(self):
        job = self.submit("--nodes=2", "--training.batch_size=-1")
        self.assertEqual(job.wait_for_end(), "FAILED")
        self.assertEqual((job.field("ExitCode"), job.restarts()), ("2:0", 0), job)
        # This error occurs only when all ranks train.
        job = self.submit("--nodes=2", "--training.learning_rate=1000000", "--training.weight_decay=1")
        self.assertEqual(job.wait_for_end(), "FAILED")
        self.assertEqual((job.field("ExitCode"), job.restarts()), ("5:0", 0), job)

    def test_starts_that_fail_without_a_checkpoint(self):
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "dtrain").write_text(
            f'#!/bin/sh\ncase "$*" in *--print-config*) exec {testing.BIN}/dtrain "$@" ;; esac\nexit 7\n')
        (programs / "dtrain").chmod(0o755)
        job = self.submit("--nodes=1", environment={"DTRAIN_BIN": str(programs), "DTRAIN_MOST_FAILURES": "2"})
        self.assertEqual(job.wait_for_end(), "FAILED")
        self.assertEqual((job.field("ExitCode"), job.restarts()), ("7:0", 1), job)
        self.assertIn("2 starts in a row failed without a new checkpoint", job.text())

    def test_more_room_than_logical_shards(self):
        job = self.submit("--nodes=2", "--parallel.logical_shards=1", "--training.epochs=1")
        self.assertEqual(job.wait_for_end(), "COMPLETED", job)
        self.assertIn("warning: this job has room for 2 ranks, but parallel.logical_shards = 1", job.text())

    def test_sweep(self):
        job = Job(self.cluster, self.folder / "task-%a.out", "--array=0-1", SCRIPTS / "sweep.sbatch",
                  self.write_config(SETTINGS), "model.seed", 5, 6, "--training.epochs=2")
        for task, seed in enumerate((5, 6)):
            wait_until(lambda: job.field("JobState", f"{job.id}_{task}") == "COMPLETED", lambda: str(job))
            alone = self.train(SETTINGS, f"--model.seed={seed}", "--training.epochs=2", ranks=1, output=f"seed-{seed}")
            self.assert_same_result(testing.Training(self.folder / "run" / f"model.seed-{seed}", None), alone)

    def test_scaling_by_jobs(self):
        output = self.cluster.command(SCRIPTS / "scaling.sh", self.write_config(SETTINGS), "--mode", "weak", "--nodes",
                                    "2", "--ranks-per-node", "1", "--repeats", "1", "--steps", "1", "--output",
                                    self.folder / "scaling.h5")
        runs = testing.read_h5(self.folder / "scaling.h5").datasets
        self.assertEqual((list(runs["/runs/ranks"]), list(runs["/runs/nodes"]), list(runs["/runs/batch_size"]),
                          list(runs["/runs/platform"])), ([2], [2], [200], [b"all"]), output)


class ScalingTest(testing.DtrainTestCase):
    """Scaling measurements without Slurm."""

    def sweep(self, *words, programs=testing.BIN, environment=None):
        return subprocess.run(
            [SCRIPTS / "scaling.sh", self.write_config(SETTINGS), "--local", "--ranks", "1 2", "--repeats", "1",
             "--steps", "2", "--output", self.folder / "scaling.h5", "--parallel.logical_shards=1", *words],
            env={**testing.environment(), "DTRAIN_BIN": str(programs), **(environment or {})},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_sweep(self):
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "dtrain").symlink_to(testing.BIN / "dtrain")
        (programs / "dtrain-bench").write_text(f"""#!/bin/sh
            [ "${{OMPI_COMM_WORLD_SIZE:-$PMI_SIZE}}" = 1 ] || {{ echo dtrain-bench: no luck >&2; exit 3; }}
            exec {testing.BIN}/dtrain-bench "$@"\n""")
        (programs / "dtrain-bench").chmod(0o755)

        failed = self.sweep(programs=programs)
        self.assertEqual(failed.returncode, 1, failed.stderr)
        self.assertIn("failed: strong-ranks0002-repeat1: dtrain-bench: no luck", failed.stderr)
        self.assertNotIn("failed: weak", failed.stderr)
        self.assertIn("1 more failed with: dtrain-bench: no luck", failed.stderr)
        self.assertIn("2 of 4 runs failed", failed.stderr)
        before = testing.snapshot(self.folder / "scaling.runs")

        complete = self.sweep()
        self.assertEqual(complete.returncode, 0, complete.stderr)
        after = testing.snapshot(self.folder / "scaling.runs")
        for path, file in before.items():
            if path.endswith("ranks0001-repeat1.json"):
                self.assertEqual(after[path], file)
        self.check_file()
        for mode, ranks in (("strong", 1), ("strong", 2), ("weak", 1), ("weak", 2)):
            self.assertRegex(complete.stdout, rf"(?m)^\| {mode} \| {ranks} \| 1 \|.*%")

        other = self.sweep("--model.layers=dense 10")
        self.assertEqual(other.returncode, 2, other.stderr)
        self.assertIn("another config", other.stderr)

    def check_file(self):
        file = testing.read_h5(self.folder / "scaling.h5")
        runs = {name.removeprefix("/runs/"): values for name, values in file.datasets.items()}
        self.assertEqual([list(runs[name]) for name in ("mode", "ranks", "batch_size")],
                         [[0, 0, 1, 1], [1, 2, 1, 2], [100, 100, 100, 200]])
        self.assert_close(runs["step_seconds"], runs["batch_size"] / runs["samples_per_second"], 1e-12, "step_seconds")
        self.assertTrue((runs["forward_seconds"] > 0).all())
        self.assertEqual((file.attributes["kind"], file.attributes["layers"]), ("scaling", SETTINGS["model.layers"]))
        self.assertIn("logical_shards = 2", file.attributes["config"])

    def test_batches(self):
        """Strong scaling uses the config's batch, weak scaling the --weak-batch for each rank."""
        result = self.sweep("--weak-batch", "10")
        self.assertEqual(result.returncode, 0, result.stderr)
        runs = testing.read_h5(self.folder / "scaling.h5").datasets
        self.assertEqual([list(runs[f"/runs/{name}"]) for name in ("mode", "batch_size")],
                         [[0, 0, 1, 1], [100, 100, 10, 20]])
        other = self.sweep("--weak-batch", "20")
        self.assertEqual(other.returncode, 2, other.stderr)
        self.assertIn("another config", other.stderr)
        small = self.sweep("--mode", "strong", "--training.batch_size=8", "--output", self.folder / "small.h5")
        self.assertEqual(small.returncode, 0, small.stderr)
        self.assertIn("fewer than 8 samples per rank", small.stderr)

    def test_stops_if_the_first_run_fails(self):
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "dtrain").symlink_to(testing.BIN / "dtrain")
        (programs / "dtrain-bench").write_text("#!/bin/sh\necho dtrain-bench: no luck >&2\nexit 3\n")
        (programs / "dtrain-bench").chmod(0o755)
        failed = self.sweep(programs=programs)
        self.assertEqual((failed.returncode, failed.stdout), (1, ""), failed.stderr)
        self.assertEqual(failed.stderr.count("no luck"), 1, failed.stderr)
        self.assertNotIn("weak", failed.stderr)

    def test_no_cluster_answers(self):
        (self.folder / "sbatch").write_text("#!/bin/sh\necho sbatch: no controller >&2\nexit 1\n")
        (self.folder / "sbatch").chmod(0o755)
        result = subprocess.run([SCRIPTS / "scaling.sh", self.write_config(SETTINGS), "--ranks", "1 2"],
                                cwd=self.folder, capture_output=True, text=True, timeout=60,
                                env={**testing.environment(), "DTRAIN_BIN": str(testing.BIN),
                                     "PATH": f"{self.folder}:{PATH}"})
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertRegex(result.stderr, r"\Asbatch: no controller\nscaling.sh: sbatch cannot submit .* add --local\n\Z")

    def test_interruption_names_the_submitted_jobs(self):
        for name, does in {"sbatch": "echo 42", "squeue": "echo RUNNING"}.items():
            (self.folder / name).write_text(f"#!/bin/sh\n{does}\n")
            (self.folder / name).chmod(0o755)
        with subprocess.Popen([SCRIPTS / "scaling.sh", self.write_config(SETTINGS), "--ranks", "2", "--mode", "weak",
                               "--repeats", "1"], cwd=self.folder, stderr=subprocess.PIPE, text=True,
                              start_new_session=True, env={**testing.environment(), "DTRAIN_BIN": str(testing.BIN),
                                                           "PATH": f"{self.folder}:{PATH}"},
                              preexec_fn=testing.accept_signals) as process:
            self.assertIn("is job 42", process.stderr.readline())
            time.sleep(1)  # so that it waits for the job
            os.killpg(process.pid, signal.SIGINT)
            try:
                _, messages = process.communicate(timeout=60)
            finally:
                process.kill()
            self.assertRegex(messages, r"scaling.sh: the submitted jobs stay in the queue.* scancel 42\n")
            self.assertEqual(process.returncode, 130)

    def test_missing_package_is_reported_before_any_run(self):
        python = self.folder / "python"
        python.write_text("#!/bin/sh\nexec /usr/bin/python3 -S \"$@\"\n")  # without Debian's modules
        python.chmod(0o755)
        for program, message in ((python, "python3-h5py"), (self.folder / "nothing", "DTRAIN_PYTHON")):
            refused = self.sweep(environment={"DTRAIN_PYTHON": str(program)})
            self.assertEqual((refused.returncode, refused.stdout), (2, ""), refused.stderr)
            self.assertIn(message, refused.stderr)
            self.assertFalse((self.folder / "scaling.runs").exists())

    def test_bad_command_lines(self):
        for words in (("--mode", "sideways"), ("--ranks", "two"), ("--weak-batch", "0"), ("--nodes", "2"),
                      ("--frobnicate",),
                      (f"--training.batch_size={testing.TRAIN_SAMPLES}",)):  # too large for each of two ranks
            refused = self.sweep(*words)
            self.assertEqual((refused.returncode, refused.stdout), (2, ""), refused.stderr)
            self.assertRegex(refused.stderr, r"^scaling.sh: .*\n$")
            self.assertFalse((self.folder / "scaling.runs").exists())


if __name__ == "__main__":
    testing.main()
