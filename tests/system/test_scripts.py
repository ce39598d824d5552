"""Scripts in Bash and Python report output that they cannot write, and pass on the messages of mpirun."""

import json
import os
import shutil
import signal
import subprocess
import sys
import unittest
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

SOURCE = testing.SOURCE


def write_scaling(path, data_phase="data"):
    """Writes the file of a scaling experiment with one run."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"format_version": 1, "kind": "scaling", "layers": "dense 10", "parameters": 7850,
                           "dtrain_version": "0.1.0"})
        for name in ("mode", "simulated", "repeat"):
            file[f"runs/{name}"] = np.uint8([0])
        for name in ("ranks", "nodes", "batch_size"):
            file[f"runs/{name}"] = [1]
        for name in ("samples_per_second", "samples_per_second_min", "samples_per_second_max", "step_seconds",
                     *(f"{phase}_seconds"
                       for phase in (data_phase, "forward", "backward", "reduce", "update", "wait"))):
            file[f"runs/{name}"] = [1.0]
        file.create_dataset("runs/platform", data=["here"], dtype=h5py.string_dtype())


class OutputTest(testing.DtrainTestCase):
    def commands(self):
        """{name at the beginning of messages: command}"""
        write_scaling(self.folder / "scaling.h5")
        return {"quickstart": [SOURCE / "quickstart.sh", "help"],
                "scaling.sh": [SOURCE / "slurm/scaling.sh", "--help"],
                "simulate.sh": [SOURCE / "slurm/simulate.sh", "--help"],
                "scaling.py": [SOURCE / "slurm/scaling.py", "table", "scaling.h5"],
                "tables.py": [SOURCE / "configs/tables.py", "--help"],
                "run.py": [SOURCE / "configs/published/run.py", "--help"],
                "spoken_digits.py": [SOURCE / "configs/spoken_digits.py", "--help"],
                "dtrain-report": [testing.BIN / "dtrain-report", "--help"],
                "dtrain-export": [testing.BIN / "dtrain-export", "--help"]}

    def run_with(self, command, stdout):
        return subprocess.run(command, cwd=self.folder, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)

    def test_full_standard_output(self):
        for name, command in self.commands().items():
            with self.subTest(name), open("/dev/full", "w") as full:
                result = self.run_with(command, full)
                self.assertEqual(result.returncode, testing.EXIT_BAD_OUTPUT, result.stderr)
                self.assertRegex(result.stderr, rf"\A{name}: cannot write to standard output[^\n]*\n\Z")
                if name in ("quickstart", "scaling.sh", "scaling.py"):
                    both = subprocess.run(command, cwd=self.folder, stdout=full, stderr=full, timeout=60)
                    self.assertEqual(both.returncode, testing.EXIT_BAD_OUTPUT)

    def test_standard_output_whose_reader_has_left(self):
        for name, command in self.commands().items():
            reader, writer = os.pipe()
            os.close(reader)
            with self.subTest(name), open(writer, "w") as pipe:
                self.assertEqual(self.run_with(command, pipe).stderr, "")


class PythonTest(testing.DtrainTestCase):
    def test_scripts_run_with_the_python_of_the_environment(self):
        python = self.folder / "python"
        python.write_text('#!/bin/sh\necho "$@"\n')
        python.chmod(0o755)
        scripts = [path for folder in ("configs", "slurm", "tests/bench") for path in (SOURCE / folder).rglob("*.py")
                   if os.access(path, os.X_OK)]
        self.assertIn(SOURCE / "slurm/scaling.py", scripts)
        for script in scripts:
            with self.subTest(script):
                result = subprocess.run([script, "a word", "--help"], capture_output=True, text=True, timeout=60,
                                        env={**testing.environment(), "DTRAIN_PYTHON": str(python)})
                self.assertEqual((result.stdout, result.stderr), (f"-E {script} a word --help\n", ""))


class ScalingFileTest(testing.DtrainTestCase):
    def test_files_of_older_versions(self):
        """They had a phase "fetch", in scaling files and in results of dtrain-bench. Files of both versions can be
        combined."""
        write_scaling(self.folder / "scaling.h5", data_phase="fetch")
        spread = {"median": 5.0, "min": 4.0, "max": 6.0}
        for ranks, phases in ((2, ("fetch",)), (4, ("data",))):
            bench = {"ranks": ranks, "nodes": 1, "batch_size": 1, "samples_per_second": spread, "layers": "dense 10",
                     "parameters": 7850, "dtrain_version": "0.1.0",
                     "phases": {name: {"seconds": 2.0} for name in (*phases, "forward", "backward", "reduce", "update",
                                                                   "wait")}}
            (self.folder / f"strong-ranks000{ranks}-repeat1.json").write_text(json.dumps(bench))
        python = [sys.executable, SOURCE / "slurm/scaling.py"]
        subprocess.run([*python, "collect", "--output", "scaling.h5", "--platform", "there",
                        "strong-ranks0002-repeat1.json", "strong-ranks0004-repeat1.json"], cwd=self.folder, check=True)
        with h5py.File(self.folder / "scaling.h5") as file:
            self.assertNotIn("fetch_seconds", file["runs"])
            self.assertEqual(file["runs/data_seconds"][()].tolist(), [1.0, 2.0, 2.0])
        table = subprocess.run([*python, "table", "scaling.h5"], cwd=self.folder, check=True, capture_output=True,
                               text=True).stdout
        self.assertEqual(table.count("| 16.7 % |\n"), 3, table)


class LauncherTest(testing.DtrainTestCase):
    """If nothing starts, the user sees the message of mpirun."""

    def test_job_reports_why_nothing_starts(self):
        cases = {"ranks=1; launch dtrian": "Executable: .*/dtrian|execvp error on file .*/dtrian"}
        if testing.is_open_mpi():
            cases["ranks=7777; launch dtrain --version"] = "not enough slots"  # MPICH would start them
        for words, message in cases.items():
            with self.subTest(words):
                result = self.in_job(words, DTRAIN_MPIRUN=testing.MPIRUN, OMPI_MCA_ras="^slurm",
                                     OMPI_MCA_plm="isolated")
                self.assertNotEqual(result.returncode, 0)
                self.assertRegex(result.stderr, message)

    def test_job_gives_each_rank_its_cores(self):
        """By options of mpirun, since Open MPI 5 ignores the variables of Open MPI 4."""
        for name, version, options in (("Open MPI 4", "mpirun (Open MPI) 4.1.4", "--map-by slot:PE=3 --bind-to core"),
                                       ("Open MPI 5", "mpirun (Open MPI) 5.0.7", "--map-by slot:PE=3 --bind-to core"),
                                       ("MPICH", "HYDRA build details:", "-bind-to core:3")):
            with self.case(name):
                mpirun = self.folder / "mpirun"
                mpirun.write_text(f'''#!/bin/sh\n[ "$1" = --version ] && echo "{version}" || echo "called: $*"\n''')
                mpirun.chmod(0o755)
                for wanted, variables in ((options, {}),
                                          ("--bind-to none", {"DTRAIN_MPIRUN": "mpirun --bind-to none"})):
                    result = self.in_job("ranks=2; launch dtrain --help", SLURM_CPUS_PER_TASK="3",
                                         PATH=f"{self.folder}:{os.environ['PATH']}", **variables)
                    self.assertEqual(result.stdout, f"called: {wanted} -np 2 {testing.BIN}/dtrain --help\n", result)

    def test_job_that_was_stopped_counts_as_stopped(self):
        """After a signal the mpirun of MPICH returns any code, and Bash may lose the code of any program. SIGUSR1 ends
        an mpirun that is only starting."""
        stopped = testing.EXIT_STOPPED
        for version, ends_with, codes in (("mpirun (Open MPI) 4.1.4", 3, (3, stopped)),
                                          ("mpirun (Open MPI) 4.1.4", 255, (stopped,)),
                                          ("mpirun (Open MPI) 4.1.4", 128 + signal.SIGUSR1, (stopped,)),
                                          ("HYDRA build details:", 3, (stopped,))):
            with self.case(f"{version} {ends_with}"):
                mpirun = self.folder / "mpirun"
                mpirun.write_text(f'''#!/bin/sh\ntrap "" USR1\n'''
                                  f'''[ "$1" = --version ] && echo "{version}" && exit\n'''
                                  f'''kill -USR1 "$PPID"; exit {ends_with}\n''')
                mpirun.chmod(0o755)
                result = self.in_job("ranks=2; launch dtrain", PATH=f"{self.folder}:{os.environ['PATH']}")
                self.assertIn(result.returncode, codes, result)

    def in_job(self, words, **variables):
        """Runs `words` after job.sh in what looks like a Slurm job. More ranks than cores are not allowed in it."""
        environment = {name: value for name, value in testing.environment().items()
                       if "rmaps" not in name and name != "DTRAIN_MPIRUN"}
        return subprocess.run(["bash", "-c", f"source slurm/job.sh; {words}"], cwd=SOURCE, capture_output=True,
                              text=True, timeout=60,
                              env={**environment, "DTRAIN_BIN": str(testing.BIN), "SLURM_JOB_ID": "1",
                                   "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_CPUS_PER_NODE": "1", **variables})

    def test_batch_scripts_outside_of_a_job(self):
        """One message says what is missing."""
        for script in ("train", "sweep", "scaling"):
            for variables, message in {"": "SLURM_JOB_ID is not set", "SLURM_JOB_ID=1": "SLURM_JOB_NODELIST is not set",
                                       "DTRAIN_ROOT=/missing": "no slurm/job.sh in /missing"}.items():
                with self.subTest(script, variables=variables):
                    clean = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
                    result = subprocess.run(["env", *variables.split(), "bash", SOURCE / f"slurm/{script}.sbatch"],
                                            cwd=SOURCE, capture_output=True, text=True, timeout=60,
                                            env={**clean, "DTRAIN_BIN": str(testing.BIN)})
                    self.assertEqual(result.returncode, testing.EXIT_BAD_CONFIG, result.stderr)
                    self.assertRegex(result.stderr, rf"\A[^\n]*{message}[^\n]*\n\Z")

    @unittest.skipUnless(testing.MNIST, "needs the genuine MNIST: set DTRAIN_MNIST to its folder")
    def test_quickstart_accepts_downloads_under_other_names_and_reports_why_nothing_starts(self):
        """All packages count as installed, and the build makes no program."""
        shutil.copy(SOURCE / "quickstart.sh", self.folder)
        for name, does in {"cmake": "true", "dpkg-query": 'printf "%s installed\\n" "$@"'}.items():
            (self.folder / name).write_text(f"#!/bin/sh\n{does}\n")
            (self.folder / name).chmod(0o755)
        kaggle = self.folder / "kaggle"
        kaggle.mkdir()
        for key, name in testing.FILE_NAMES.items():
            file = testing.find_idx(testing.MNIST, key)
            dotted = kaggle / name.replace("-idx", ".idx") / file.name.replace("-idx", ".idx")
            place = kaggle / file.name if "labels" in key else dotted
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(file)
        result = subprocess.run(["./quickstart.sh", "run"], cwd=self.folder, capture_output=True, text=True, timeout=60,
                                env={**testing.environment(), "DTRAIN_MNIST_DIR": str(kaggle),
                                     "PATH": f"{self.folder}:{os.environ['PATH']}"})
        self.assertIn("MNIST is in data/mnist.", result.stdout, result.stderr)
        self.assertRegex(result.stderr, "(Executable:|execvp error on file) .*build/release/bin/dtrain")
        self.assertRegex(result.stderr, r"quickstart: the training ended with code \d+\n\Z")
        self.assertEqual({path.name.removesuffix(".gz") for path in (self.folder / "data/mnist").iterdir()},
                         set(testing.FILE_NAMES.values()))


if __name__ == "__main__":
    testing.main()
