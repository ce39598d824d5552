"""The documents are true: their Python runs, their paths and links exist, their tables match the programs."""

import contextlib
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

TRACKED = subprocess.run(["git", "-C", testing.SOURCE, "ls-files"], capture_output=True, text=True,
                         check=False).stdout.split()
FILES = [Path(name) for name in TRACKED] or [path.relative_to(testing.SOURCE) for path in testing.SOURCE.rglob("*")
                                             if "build" not in path.parts and ".git" not in path.parts]
DOCUMENTS = sorted(path for path in FILES if path.suffix == ".md")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Folders of the repository. A name that begins with one of them is a path.
TOP = sorted({path.parts[0] for path in FILES if len(path.parts) > 1 and not path.parts[0].startswith(".")})
PATH = re.compile(rf"(?:\./)?(?:{'|'.join(TOP)})/[\w./*-]*[\w*]|\./quickstart\.sh")
# What README's quick start creates.
QUICK_START = {"build/release", "data/mnist", "runs/mnist-sigmoid"}
LONGEST = {"README.md": 150, "CONTRIBUTING.md": 100}


def text_of(document):
    return (testing.SOURCE / document).read_text(encoding="utf-8")


def prose(document):
    """The document without its code blocks."""
    return FENCED.sub("", text_of(document))


def snippets():
    """(document, code) of every Python snippet."""
    return [(document, code) for document in DOCUMENTS for language, code in FENCED.findall(text_of(document))
            if language == "python"]


def anchors(document):
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).strip().replace(" ", "-")
            for heading in headings}


def commands(document):
    """The commands of a document's code blocks, in order, each as a list of words. In a block with prompts only the
    lines after a prompt are commands. README shows results before it explains how to get them."""
    for language, block in FENCED.findall(text_of(document)):
        if language not in ("", "bash", "sh", "console"):
            continue
        lines = block.replace("\\\n", " ").splitlines()
        if any(line.startswith("$ ") for line in lines):
            if str(document) == "README.md":
                continue
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            with contextlib.suppress(ValueError):  # text that is not a command
                yield from split_at_operators(shlex.split(line, comments=True))


def split_at_operators(words):
    command = []
    for word in words:
        if word in ("&&", "||", ";", "|", "&"):
            yield command
            command = []
        else:
            command.append(word)
    if command:
        yield command


class DocumentsTest(testing.DtrainTestCase):
    def test_documents_are_short(self):
        for document, longest in LONGEST.items():
            self.assertLessEqual(len(text_of(document).splitlines()), longest, document)

    def test_links_and_anchors_resolve(self):
        for document in DOCUMENTS:
            for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
                if "://" in target:
                    continue
                with self.subTest(str(document), link=target):
                    name, _, anchor = target.partition("#")
                    path = (testing.SOURCE / document).parent / name if name else testing.SOURCE / document
                    self.assertTrue(path.exists())
                    if anchor:
                        self.assertIn(anchor, anchors(path.resolve().relative_to(testing.SOURCE.resolve())))

    def test_paths_exist(self):
        for document in DOCUMENTS:
            for code in re.findall(r"`([^`\n]+)`", prose(document)):
                for path in PATH.findall(code):
                    with self.subTest(str(document), path=path):
                        self.assertTrue(list(testing.SOURCE.glob(path.removeprefix("./"))))

    def test_commands_use_what_earlier_commands_made(self):
        """Programs are built and runs are trained before a command uses them."""
        for document in DOCUMENTS:
            made = set() if str(document) == "README.md" else set(QUICK_START)
            for words in commands(document):
                with self.subTest(str(document), command=" ".join(words)):
                    self.check_command(words, made)

    def check_command(self, words, made):
        if words[0] == "./quickstart.sh":
            made |= {"run": QUICK_START, "test": {"build/dev", "data/mnist"}, "data": {"data/mnist"},
                     "package": {"build/release"}}[words[1]]
        if words[:2] == ["cmake", "--build"] and "--preset" in words:
            made.add("build/" + words[words.index("--preset") + 1])
        for word in words:
            if program := re.match(r"(build/\w+)/bin/([\w-]+)", word):
                self.assertIn(program.group(1), made, "it is not built yet")
                self.assertTrue((testing.BIN / program.group(2)).exists(), program.group(2))
            for path in PATH.findall(word):
                self.assertTrue(list(testing.SOURCE.glob(path.removeprefix("./"))), path)
        output = self.output_of(words)
        for word in words:
            for run in re.findall(r"\bruns/[\w.-]+", word):
                self.assertTrue(run == output or any(run.startswith(path) for path in made),
                                f"no earlier command makes {run}")
        if output:
            made.add(output)

    def output_of(self, words):
        """The run or file that a command writes."""
        for word in words:
            if found := re.fullmatch(r"--output\.directory=(\S+)", word):
                return found.group(1)
        for option in ("--record", "-o", "--json", "--output", "mkdir", "cp", "mv"):
            if option in words:
                return words[-1] if option in ("cp", "mv", "mkdir") else words[words.index(option) + 1]
        configs = [word for word in words if word.endswith(".ini") and (testing.SOURCE / word).exists()]
        if not configs:
            return None
        if any(word.startswith(("slurm/scaling", "slurm/simulate")) for word in words):
            return f"runs/scaling-{Path(configs[0]).stem}"
        if any(word.endswith(("dtrain", "train.sbatch", "sweep.sbatch")) for word in words) and "--check" not in words:
            return re.search(r"^directory = (runs/.*)$", text_of(configs[0]), re.MULTILINE).group(1)
        return None

    def test_table_of_keys_matches_the_program(self):
        (self.folder / "empty.ini").write_text("")
        printed = testing.run("dtrain", "empty.ini", "--print-config", cwd=self.folder).stdout
        section, sections, expected = None, set(), {}
        for line in printed.splitlines():
            if line.startswith("["):
                section = line
                sections.add(section)
            elif line:
                name, _, value = line.partition(" =")
                expected[section, name] = value.strip()
        section, documented = None, {}
        for line in prose("configs/README.md").splitlines():
            if line.startswith("#"):
                section = line.strip("# ")
            elif (row := re.match(r"\| `(\w+)` \| (?:`([^`]*)`|\w*) \|", line)) and section in sections:
                documented[section, row.group(1)] = row.group(2) or ""
        self.assertEqual(documented, expected)

    def test_tutorial_shows_every_line_of_a_run(self):
        def first_words(output):
            return list(dict.fromkeys(re.findall(r"^[a-z]+\b", output, re.MULTILINE)))
        shown, = (block for _, block in FENCED.findall(text_of("configs/TUTORIAL.md"))
                  if "--output.resume=never" in block)
        self.train({}, ranks=None)
        again = self.train({}, "--output.resume=never", ranks=None)
        self.assertEqual(first_words(shown), first_words(again.result.stdout))

    def test_batch_scripts_have_the_module_line_of_the_document(self):
        line, = re.findall(r"^   (module load gcc .*)$", text_of("slurm/README.md"), re.MULTILINE)
        for path in FILES:
            if path.suffix == ".sbatch":
                self.assertIn(f"\n# {line}\n", text_of(path), path)

    def test_every_config_is_in_an_index(self):
        index = {"configs": text_of("configs/README.md"), "configs/published": text_of("configs/published/README.md")}
        for path in FILES:
            if path.suffix == ".ini" and path.parts[0] == "configs":
                names = f"`{path.name}`", f"`{path.stem}`", f"]({path.name})"
                self.assertTrue(any(name in index[str(path.parent)] for name in names), f"{path} is in no index")

    def test_published_table_matches_the_configs(self):
        """configs/published/run.py prints the same columns from the same lines."""
        rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text_of("configs/published/README.md"), re.MULTILINE)
        documented = {name: columns.split(" | ")[:3] for name, columns in rows if columns.count(" | ") > 3}
        self.assertEqual(documented, {
            path.stem: [re.search(rf"^# {key}: (.*?)(?: %)?$", text_of(path), re.MULTILINE).group(1)
                        for key in ("Network", "Source", "Published test error")]
            for path in FILES if path.match("configs/published/*.ini")})

    def test_exit_codes_match_the_program(self):
        header = text_of("include/dtrain/core/error.hpp")
        codes = set(re.findall(r"^    \w+ = (\d+),", header, re.MULTILINE))
        documented = set(re.findall(r"^\| (\d+) \|", text_of("README.md"), re.MULTILINE))
        self.assertEqual(codes | {"1"}, documented)  # mpirun and the scripts also use 1


class SnippetTest(testing.DtrainTestCase):
    RUN = "runs/mnist-sigmoid"

    def one_snippet(self, word):
        """The only snippet of all documents that contains `word`."""
        found = [(document, code) for document, code in snippets() if word in code]
        self.assertEqual(len(found), 1, f"snippets with {word}")
        return found[0]

    def run_snippet(self, word, **replaced):
        """Runs a snippet in the folder of the run and its data. Returns the names that it defines, and its output."""
        document, code = self.one_snippet(word)
        for pattern, text in replaced.items():
            code = re.sub({"step": r"step-\d{8}"}[pattern], text, code)
        names, printed = {}, io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(printed):
            exec(compile(code, str(document), "exec"), names)
        return names, printed.getvalue()

    def train_sigmoid_network(self):
        run = self.train({"output.directory": self.folder / self.RUN, "training.batch_size": 32})
        return run, f"step-{run.last_checkpoint().attributes['step']:08d}"

    def need(self, module):
        if importlib.util.find_spec(module) is None:
            self.skipTest(f"there is no Python module {module}")

    def test_each_has_a_test(self):
        words = re.findall(r'run_snippet\("([^"]+)"', Path(__file__).read_text(encoding="utf-8"))
        for document, code in snippets():
            self.assertTrue(any(word in code for word in words), f"{document}:\n{code}")

    def test_data_set(self):
        names, _ = self.run_snippet("write_idx")
        for array in (np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.float32([[1.5, -2]])):
            names["write_idx"](self.folder / "file", array)
            self.assertEqual((self.folder / "file").read_bytes(), testing.idx_bytes(array))

    def test_hdf5_data_set(self):
        names, _ = self.run_snippet("write_hdf5")
        names["write_hdf5"](self.folder / "data.h5", **{key.replace("images", "samples"): array
                                                        for key, array in self.arrays.items()})
        trained = self.train({"data.source": "hdf5", "data.file": self.folder / "data.h5"}, output="of-hdf5")
        self.assertEqual(trained.fingerprint(), self.train({}, output="of-idx").fingerprint())

    def test_image_folders(self):
        self.need("PIL")
        from PIL import Image
        for part, samples in (("train", 40), ("test", 7)):
            for number in range(samples):
                label = self.arrays[f"{part}_labels"][number] % 3
                folder = self.folder / "pictures" / part / f"class-{label}"
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(self.arrays[f"{part}_images"][number]).save(folder / f"{number}.png")
        for folder in ("pictures/train", "pictures/train/class-0"):
            (self.folder / folder / ".DS_Store").touch()  # as macOS writes: neither a class nor an image
        names, _ = self.run_snippet("from PIL import Image")
        with h5py.File(self.folder / "pictures.h5") as file:
            for part, samples in (("train", 40), ("test", 7)):
                written = {image.tobytes(): names["classes"][label]
                           for image, label in zip(file[f"{part}/samples"][()], file[f"{part}/labels"][()])}
                self.assertEqual(written, {self.arrays[f"{part}_images"][number].tobytes():
                                           f"class-{self.arrays[f'{part}_labels'][number] % 3}"
                                           for number in range(samples)})
        self.train({"data.source": "hdf5", "data.file": self.folder / "pictures.h5", "training.batch_size": 8})

    def test_log(self):
        run, _ = self.train_sigmoid_network()
        _, printed = self.run_snippet("log.attrs[")
        log = run.log()
        self.assertEqual(printed, f"{log.datasets['/epochs/test_accuracy']} {log.attributes['dataset']}\n"
                                  f"{log.datasets['/epochs/fingerprint'][-1]:016x}\n32\n")

    def test_pandas(self):
        self.need("pandas")
        run, _ = self.train_sigmoid_network()
        names, _ = self.run_snippet("import pandas")
        table, log = names["epochs"], run.log().datasets
        self.assertEqual(set(table.columns), {name[8:] for name in log if name.startswith("/epochs/")} - {"epoch"})
        for name in table.columns:
            np.testing.assert_array_equal(table[name], log[f"/epochs/{name}"])
        self.assertEqual(len(names["smooth"]), len(log["/steps/cost"]))

    def link_data(self):
        """Links data/mnist, the folder that the documents name."""
        (self.folder / "data").mkdir()
        (self.folder / "data/mnist").symlink_to(self.data)

    def test_backpropagation(self):
        """NumPy's gradient in double precision agrees with the gradient of dtrain's first step."""
        self.link_data()
        self.train({"output.directory": self.folder / "runs/untrained", "training.epochs": 0})
        self.train({"output.directory": self.folder / "runs/one-step", "training.epochs": 1,
                    "training.batch_size": "all"})
        _, printed = self.run_snippet("# BP1")
        lines = re.findall(r"^[Wb][123]  largest slope (\S+)  difference (\S+)$", printed, re.MULTILINE)
        self.assertEqual(len(lines), 6, printed)
        for slope, difference in lines:
            self.assertLess(float(difference), 1e-4 * float(slope), printed)

    def test_forward_pass(self):
        self.link_data()
        run, _ = self.train_sigmoid_network()
        _, printed = self.run_snippet("newest = max(")
        self.assertEqual(printed, f"test accuracy {100 * run.log().datasets['/epochs/test_accuracy'][-1]:.2f} %\n")

    def test_opencv(self):
        for module in ("cv2", "onnx"):
            self.need(module)
        run, _ = self.train_sigmoid_network()
        result = testing.run("dtrain-export", run.folder, "-o", "model.onnx", cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        names, _ = self.run_snippet("import cv2")
        predicted = names["classes_of"](self.arrays["test_images"])
        self.assertAlmostEqual(np.mean(predicted == self.arrays["test_labels"]),
                               run.log().datasets["/epochs/test_accuracy"][-1], delta=1e-9)

    def test_pytorch(self):
        self.need("torch")
        run, step = self.train_sigmoid_network()
        names, _ = self.run_snippet("import torch", step=step)
        torch = names["torch"]
        images = torch.tensor(self.arrays["test_images"].reshape(-1, 784) / np.float32(255))
        predicted = names["network"](images).argmax(1).numpy()
        self.assertAlmostEqual(np.mean(predicted == self.arrays["test_labels"]),
                               run.log().datasets["/epochs/test_accuracy"][-1], delta=1e-9)


if __name__ == "__main__":
    testing.main()
