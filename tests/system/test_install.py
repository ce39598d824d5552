"""The installed tree: complete, independent of the sources and of the build, and usable after it was moved."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

PROGRAMS = ("dtrain", "dtrain-bench", "dtrain-eval", "dtrain-export", "dtrain-report")
BUILD = testing.BIN.parent
TINY = ("--data.train_samples=200", "--data.test_samples=50", "--training.epochs=1", "--output.directory=run")


@unittest.skipUnless((BUILD / "cmake_install.cmake").exists(), f"{BUILD} is no build folder")
class InstallTest(testing.DtrainTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory(prefix="dtrain-install-")
        cls.addClassCleanup(folder.cleanup)
        first, cls.prefix = Path(folder.name) / "first", Path(folder.name) / "moved tree"
        subprocess.run(["cmake", "--install", BUILD, "--prefix", first], check=True, capture_output=True)
        first.rename(cls.prefix)
        cls.first, cls.share = first, cls.prefix / "share/dtrain"

    def run_in(self, *words, check=True, **variables):
        environment = {**testing.environment(), **variables}
        environment.pop("DTRAIN_BIN", None)
        result = subprocess.run(list(map(str, words)), cwd=self.folder, env=environment, capture_output=True, text=True,
                                timeout=60)
        if check:
            self.assertEqual(result.returncode, 0, result)
        return result

    def help_of(self, program):
        return self.run_in(self.prefix / "bin" / program, "--help", COLUMNS="200").stdout

    def options_of(self, program):
        return set(re.findall(r"^  (?:-\w(?: [A-Z]+)?, )?(--[a-z-]+)(?: |$)", self.help_of(program), re.MULTILINE))

    def test_version_and_help(self):
        project = (testing.SOURCE / "CMakeLists.txt").read_text()
        version = re.search(r"^project\(dtrain VERSION (\S+)", project, re.MULTILINE)[1]
        git = subprocess.run(["git", "-C", testing.SOURCE, "describe", "--always", "--exclude=*"], capture_output=True,
                             text=True, check=False)
        commit = "( \\([0-9a-f]{7,}(-dirty)?\\))" + ("" if git.returncode == 0 else "?")
        for program in PROGRAMS:
            with self.subTest(program):
                self.assertRegex(self.run_in(self.prefix / "bin" / program, "--version").stdout,
                                 rf"\Adtrain {re.escape(version)}{commit}\n\Z")
                self.assertRegex(self.help_of(program), rf"\Ausage: .*{program} ")

    def test_version_without_git(self):
        """A tarball has no commit, even if it lies in another repository."""
        template, output = self.folder / "in", self.folder / "out"
        template.write_text("@DTRAIN_VERSION_TEXT@\n")
        (self.folder / "tarball").mkdir()
        self.run_in("git", "init", "-q", ".")
        self.run_in("git", "-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "--allow-empty", "-m", "other")
        for source, expected in (("tarball", r"1\.2\.3"), (".", r"1\.2\.3 \([0-9a-f]{7,}\)")):
            self.run_in("cmake", f"-DSOURCE={self.folder / source}", "-DVERSION=1.2.3", f"-DTEMPLATE={template}",
                        f"-DOUTPUT={output}", "-P", testing.SOURCE / "src/version.cmake")
            self.assertRegex(output.read_text(), rf"\A{expected}\n\Z")

    def test_training_evaluation_report_and_export(self):
        programs = self.prefix / "bin"
        config = self.share / "configs/synthetic.ini"
        self.run_in(testing.MPIRUN, "-np", "2", programs / "dtrain", config, *TINY)
        self.assertIn("sample 0", self.run_in(programs / "dtrain-eval", "run", "--show", "1").stdout)
        self.assertIn("report.html", self.run_in(programs / "dtrain-report", "run").stdout)
        self.assertIn('id="fingerprint"', (self.folder / "report.html").read_text())
        self.run_in(programs / "dtrain-export", "run", "-o", "weights.safetensors")
        self.assertTrue((self.folder / "weights.safetensors").exists())

    def test_report_runs_with_the_python_in_the_environment(self):
        python = self.folder / "python"
        python.write_text(f"#!/bin/sh\necho chosen\nexec {sys.executable} \"$@\"\n")
        python.chmod(0o755)
        report = self.prefix / "bin/dtrain-report"
        self.assertRegex(self.run_in(report, "--version", DTRAIN_PYTHON=str(python)).stdout, r"\Achosen\ndtrain \d")
        result = self.run_in(report, "--version", DTRAIN_PYTHON="no-such-python", check=False)
        self.assertEqual(result.returncode, testing.EXIT_BAD_CONFIG)
        self.assertRegex(result.stderr, r"\Adtrain-report: DTRAIN_PYTHON=no-such-python: .*\n\Z")

    def test_slurm_scripts(self):
        scripts = self.share / "slurm"
        self.assertIn("usage: ", self.run_in(scripts / "scaling.sh", "--help").stdout)
        table = self.run_in(scripts / "scaling.sh", self.share / "configs/synthetic.ini", *TINY[:2], "--local",
                            "--mode", "strong", "--ranks", "1", "--repeats", "1", "--steps", "1").stdout
        self.assertIn("| strong | 1 | 1 |", table)
        job = ["bash", "-c", 'source "$1/job.sh" && echo "$bin"', "bash", scripts]
        slurm = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_CPUS_PER_NODE": "1"}
        self.assertEqual(self.run_in(*job, **slurm).stdout, f"{self.prefix.resolve()}/bin\n")

    def test_man_pages(self):
        for program in PROGRAMS:
            with self.subTest(program):
                page = self.prefix / f"share/man/man1/{program}.1"
                text = page.read_text().replace("\\-", "-")
                for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", '"EXIT STATUS"'):
                    self.assertIn(f"\n.SH {heading}\n", text.replace('"OPTIONS"', "OPTIONS"))
                self.assertEqual(set(re.findall(r"^\.TP\n\\fB[^\n]*?(--[a-z-]+)(?![a-z.-])", text, re.MULTILINE)),
                                 self.options_of(program))
                self.assertEqual('\n.SH "ENVIRONMENT"\n.TP\n\\fBDTRAIN_ISA\\fR\n' in text, program == "dtrain")
                if shutil.which("groff"):
                    self.assertEqual(self.run_in("groff", "-man", "-ww", "-z", page).stderr, "")

    def complete(self, program, word):
        """What bash offers for a word. It loads the file of the program's name."""
        script = ('source "$1/$2" && compopt() { echo "$*"; }; COMP_WORDS=("$3" "$4"); '
                  '_dtrain "$3" "$4" "$3"; printf "%s\\n" "${COMPREPLY[@]}"')
        completions = self.prefix / "share/bash-completion/completions"
        return self.run_in("bash", "--norc", "-c", script, "bash", completions, program, self.prefix / "bin" / program,
                           word).stdout.split("\n")[:-1]

    def test_completion(self):
        for program in PROGRAMS:
            offered = {word for word in self.complete(program, "--") if "." not in word}
            self.assertEqual(offered, self.options_of(program))
        (self.folder / "empty.ini").write_text("")
        printed = self.run_in(self.prefix / "bin/dtrain", "empty.ini", "--print-config").stdout
        for program in ("dtrain", "dtrain-bench"):
            keys = [word for word in self.complete(program, "--") if "." in word]
            self.assertEqual(len(keys), printed.count(" ="))
            self.assertIn("--training.learning_rate=", keys)
            self.assertEqual(self.complete(program, "--training.ep"), ["-o nospace", "--training.epochs="])
        self.assertEqual(self.complete("dtrain", "config"), [""])

    def test_links_of_the_documents(self):
        documents = list((self.prefix / "share/doc/dtrain").rglob("*.md"))
        self.assertIn("README.md", {path.name for path in documents})
        for document in self.share.rglob("*.md"):
            for target in re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", document.read_text(encoding="utf-8")):
                if "://" not in target:
                    with self.subTest(document.relative_to(self.share), link=target):
                        self.assertTrue((document.parent / target).exists())

    def test_nothing_leads_to_the_sources_or_out_of_the_tree(self):
        folders = [str(folder).encode() for folder in (testing.SOURCE, BUILD, self.first)]
        for path in self.prefix.rglob("*"):
            with self.subTest(path.relative_to(self.prefix)):
                if path.is_symlink():
                    self.assertTrue(path.exists())
                    self.assertFalse(os.readlink(path).startswith("/"))
                elif path.is_file() and not path.read_bytes().startswith(b"\x7fELF"):
                    for folder in folders:
                        self.assertNotIn(folder, path.read_bytes())


if __name__ == "__main__":
    testing.main()
