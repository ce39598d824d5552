"""Output that cannot be written: exit code 6, one message that names the place, complete files stay complete."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402


class BadOutputTest(testing.DtrainTestCase):
    @contextlib.contextmanager
    def mounted(self, size):
        """A small file system of its own. Skips the test if it cannot be mounted."""
        place = self.folder / "disk"
        place.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "dtrain-test", place],
                                 capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"cannot mount a tmpfs: {mounted.stderr.strip()}")
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)

    def refused(self, config, place):
        for ranks in testing.BAD_INPUT_RANKS:
            with self.subTest(str(place), ranks=ranks):
                self.assert_refused("dtrain", config, code=testing.EXIT_BAD_OUTPUT, words=[place], ranks=ranks)

    def test_places_where_no_folder_can_be(self):
        file = self.folder / "file"
        file.write_text("not a folder\n")
        for place in (file, file / "run", Path("/proc/nope/run"), Path("/dev/full/run")):
            self.refused(self.write_config({"output.directory": place}), place)

    def test_checkpoints_is_a_file(self):
        (self.folder / "run").mkdir()
        (self.folder / "run" / "checkpoints").write_text("not a folder\n")
        self.refused(self.write_config({}), self.folder / "run")

    def test_folder_without_permission_to_write(self):
        with self.locked_folder() as place:
            self.refused(self.write_config({"output.directory": place / "run"}), place)
            self.refused(self.write_config({"output.directory": place}), place)

    @contextlib.contextmanager
    def locked_folder(self):
        if os.geteuid() == 0:  # root can write everywhere except on a read-only file system
            with self.mounted("64k") as place:
                subprocess.run(["mount", "-o", "remount,ro", place], check=True)
                yield place
        else:
            place = self.folder / "locked"
            place.mkdir(mode=0o500)
            yield place

    def test_names_that_are_too_long(self):
        run, name = self.train().folder, "x" * 300
        config = self.write_config({})
        for words, code in {("dtrain", config, f"--output.directory={name}"): testing.EXIT_BAD_OUTPUT,
                            ("dtrain", config, f"--data.directory={name}"): testing.EXIT_BAD_DATA,
                            ("dtrain", name): testing.EXIT_BAD_CONFIG,
                            ("dtrain-bench", config, "--steps-only", "--json", name): testing.EXIT_BAD_OUTPUT,
                            ("dtrain-eval", run, "--record", name): testing.EXIT_BAD_OUTPUT,
                            ("dtrain-eval", run, "--images", name): testing.EXIT_BAD_DATA,
                            ("dtrain-eval", name): testing.EXIT_BAD_CHECKPOINT}.items():
            with self.subTest(words):
                self.assert_refused(*words, code=code, words=[f"{name}: File name too long"])

    def test_parent_without_permission_to_search(self):
        locked = self.folder / "locked"
        (locked / "run").mkdir(parents=True)
        config = self.write_config({"output.directory": locked / "run"})
        user = []
        if os.geteuid() == 0:  # root may search every folder
            user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            self.folder.chmod(0o755)
            locked.chmod(0o700)
            if subprocess.run([*user, testing.BIN / "dtrain", "--version"], capture_output=True).returncode != 0:
                self.skipTest("another user cannot start the programs")
        else:
            locked.chmod(0o600)
            self.addCleanup(locked.chmod, 0o700)
        for words, code in {("dtrain", config, f"--data.directory={locked / 'run'}"): testing.EXIT_BAD_DATA,
                            ("dtrain", config, "--data.source=synthetic", "--data.train_samples=100"):
                                testing.EXIT_BAD_OUTPUT,
                            ("dtrain-eval", locked / "run"): testing.EXIT_BAD_CHECKPOINT}.items():
            with self.subTest(words):
                result = subprocess.run([*user, *testing.command(*words)], cwd="/", env=testing.environment(),
                                        capture_output=True, text=True, timeout=60)
                self.assert_one_message(testing.Result(result.returncode, result.stdout, result.stderr), code,
                                        f"{locked / 'run'}: Permission denied", program=words[0])

    def test_disk_full(self):
        checkpoint_size = self.train(ranks=2).checkpoints()[0].stat().st_size
        for left in (0, 16 * 1024, checkpoint_size * 3 // 2):
            for ranks in testing.BAD_INPUT_RANKS:
                with self.case(left=left, ranks=ranks), self.mounted("1m") as place:
                    self.check_disk_full(place, left, ranks)

    def check_disk_full(self, place, left, ranks):
        settings = {"output.directory": place / "run", "training.epochs": 1}
        run = self.train(settings, ranks=ranks)
        first = run.checkpoints()[0]
        complete = first.read_bytes()
        names = run.files()

        filler = place / "filler"
        status = os.statvfs(place)
        filler.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - left)))
        failed = self.train(settings, "--training.epochs=5", ranks=ranks, expect=testing.EXIT_BAD_OUTPUT)
        self.assert_one_message(failed.result, testing.EXIT_BAD_OUTPUT, place, max_warnings=1)
        if left > 0:  # enough to begin
            self.assertRegex(failed.result.stderr, f"warning: {place}/run has 0.[0-9] MB free, and the files of ")
        self.assertEqual(first.read_bytes(), complete)
        run.log()
        for path in run.checkpoints():
            testing.read_h5(path)
        for name in run.files() - names:
            self.assertRegex(name, r"^checkpoints/step-\d{8}\.h5$")

        filler.unlink()
        self.train(settings, "--training.epochs=5", ranks=ranks)
        straight = self.train({"training.epochs": 5}, ranks=ranks, output="straight")
        self.assert_same_result(run, straight)

    def interrupted(self, config, folder, obstruct):
        """The result of a run in `folder`. After its first checkpoint, `obstruct` is called repeatedly."""
        with testing.Process(testing.command("dtrain", config, ranks=2), self.folder) as process:
            process.wait_until(lambda: testing.newest_step(folder) > 0)
            while process.popen.poll() is None:
                obstruct()
                time.sleep(0.002)
            return process.result()

    def test_disk_fills_in_the_middle_of_a_run(self):
        with self.mounted("1m") as place:
            settings = {"output.directory": place / "run", "training.epochs": 2000,
                        "output.checkpoint_every": "7 steps"}
            filler = (place / "filler").open("ab", buffering=0)

            def fill():
                with contextlib.suppress(OSError):
                    while filler.write(bytes(4096)):
                        pass

            with filler:
                result = self.interrupted(self.write_config(settings), place / "run", fill)
            self.assert_one_message(result, testing.EXIT_BAD_OUTPUT, place / "run", "No space left", max_warnings=1)
            failed = testing.Training(place / "run", result)
            self.assertFalse([name for name in failed.files() if name.endswith(".tmp")])
            step = failed.last_checkpoint().attributes["step"]
            evaluated = testing.run("dtrain-eval", failed.checkpoints()[-1], cwd=self.folder)
            self.assertEqual(evaluated.code, testing.EXIT_OK, evaluated)

            (place / "filler").unlink()
            epochs = f"--training.epochs={step // 16 + 2}"
            resumed = self.train(settings, epochs, ranks=2)
            self.assertIn(f"step {step}\n", resumed.result.stdout)
            straight = self.train({**settings, "output.directory": self.folder / "straight"}, epochs, ranks=2,
                                  output="straight")
            self.assert_same_result(resumed, straight)

    def test_folder_is_removed_in_the_middle_of_a_run(self):
        run = self.folder / "run"
        config = self.write_config({"training.epochs": 1000000})
        result = self.interrupted(config, run, lambda: shutil.rmtree(run, ignore_errors=True))
        self.assert_one_message(result, testing.EXIT_BAD_OUTPUT, run)
        self.assertRegex(result.stderr, "No such file or directory|is no longer the folder that this run writes to")


class StandardOutputTest(testing.DtrainTestCase):
    def test_full_standard_output(self):
        trained = self.train()
        config = self.write_config({})
        for words in (("dtrain", "--help"), ("dtrain", "--version"), ("dtrain", config, "--print-config"),
                      ("dtrain", config, "--check"), ("dtrain-bench", "--help"), ("dtrain-eval", "--help"),
                      ("dtrain-eval", trained.folder)):
            with self.subTest(" ".join(map(str, words))), open("/dev/full", "w") as full:
                result = subprocess.run(testing.command(*words), stdout=full, stderr=subprocess.PIPE, text=True,
                                        env=testing.environment(), cwd=self.folder, timeout=60, check=False)
                self.assertEqual(result.returncode, testing.EXIT_BAD_OUTPUT, result.stderr)
                self.assertRegex(testing.without_mpi(result.stderr),
                                 rf"\A{words[0]}: [^\n]*No space left on device\n\Z")


    def test_full_standard_error(self):
        """Only messages are lost: a run that prints a warning continues."""
        config = self.write_config({"parallel.threads": 2 * os.cpu_count(), "training.epochs": 1})
        for words, code in {("dtrain", config): testing.EXIT_OK,
                            ("dtrain", "missing.ini"): testing.EXIT_BAD_CONFIG,
                            ("dtrain", "missing.ini", "--print-config"): testing.EXIT_BAD_CONFIG,
                            ("dtrain-eval", "missing.h5"): testing.EXIT_BAD_CHECKPOINT,
                            ("dtrain-export", "missing", "-o", "x.safetensors"): testing.EXIT_BAD_CHECKPOINT,
                            ("dtrain-report", "missing"): 1}.items():
            with self.subTest(" ".join(map(str, words))), open("/dev/full", "w") as full:
                result = subprocess.run(testing.command(*words), stdout=subprocess.PIPE, stderr=full, cwd=self.folder,
                                        env=testing.environment(), timeout=60, check=False)
                self.assertEqual(result.returncode, code)


class OutputOptionsTest(testing.DtrainTestCase):
    def test_options_replace_only_files_of_their_own_kind(self):
        trained = self.train()
        config = self.write_config({})
        others = [trained.folder / "log.h5", trained.checkpoints()[-1], config]
        commands = {"evaluation.h5": ("dtrain-eval", trained.folder, "--surface", "0", "--record"),
                    "results.json": ("dtrain-bench", config, "--steps-only", "--steps=1", "--blocks=1", "--json"),
                    "weights.safetensors": ("dtrain-export", trained.folder, "-o"),
                    "report.html": ("dtrain-report", trained.folder, "-o")}
        for name, words in commands.items():
            for _ in range(2):  # the second call replaces the file of the first
                result = testing.run(*words, self.folder / name, cwd=self.folder)
                self.assertEqual(result.code, testing.EXIT_OK, result)
        for words in commands.values():
            for other in others + [self.folder / name for name in commands if name not in str(words)]:
                if commands.get(other.name) is words:
                    continue
                with self.subTest(words[0], replaces=other.name):
                    before = other.read_bytes()
                    result = testing.run(*words, other, cwd=self.folder)
                    # If the file is also an input, the command line is wrong.
                    self.assertIn(result.code, {testing.EXIT_BAD_OUTPUT, testing.EXIT_BAD_CONFIG}, result)
                    self.assertEqual(other.read_bytes(), before)
                    self.assertIn(other.name, result.stderr)


if __name__ == "__main__":
    testing.main()
