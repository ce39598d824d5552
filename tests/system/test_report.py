"""dtrain-report: the page shows what the HDF5 files contain, needs no other files, and names what it cannot show."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402
from browser import CHROMIUM, Browser  # noqa: E402
from page_reading import Page, measure  # noqa: E402

EXIT_NOTHING_SHOWN = 1
MOST_BYTES = 5_000_000
SIGNIFICANT = 6e-4  # relative: costs are shown with four digits
# The colours of each count of the confusion matrix, of its background and of the page: red, green, blue, and alpha
# unless it is 1.
COLOURS = """(() => {
    const colour = (element, name) => getComputedStyle(element)[name].match(/[\\d.]+/g).map(Number);
    return [...document.querySelectorAll("#confusion tbody td")].map(cell =>
        [colour(cell, "color"), colour(cell, "backgroundColor"), colour(document.body, "backgroundColor")]);
})()"""
PROGRESS = re.compile(r"^dtrain-report: .* \.\.\.$")


def contrast_of(*colours):
    """The contrast ratio of two colours, as WCAG 2.2 defines it."""
    channels = np.array(colours) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return (high + 0.05) / (low + 0.05)


def write_scaling(path, rows, data_phase="data"):
    """Writes a scaling experiment. `rows` are (mode, ranks, simulated, platform, samples per second)."""
    mode, ranks, simulated, platform, rate = (np.array(column) for column in zip(*rows))
    with h5py.File(path, "w") as file:
        file.attrs.update({"format_version": 1, "kind": "scaling", "layers": "dense 10", "parameters": 7850,
                           "dtrain_version": "0.1.0", "created": "2026-11-24T12:00:00Z", "config": "[model]\n",
                           "simulation_check": "| ranks | difference |\n|---|---|\n| 1 | +1.5 % |"})
        runs = file.create_group("runs")
        runs["mode"], runs["simulated"] = mode.astype(np.uint8), simulated.astype(np.uint8)
        runs["ranks"] = runs["nodes"] = runs["batch_size"] = ranks.astype(np.int64)
        runs["repeat"] = np.zeros(len(rows), np.int64)
        runs.create_dataset("platform", data=platform.astype(object), dtype=h5py.string_dtype())
        for name, values in {"": rate, "_min": 0.9 * rate, "_max": 1.1 * rate}.items():
            runs[f"samples_per_second{name}"] = values
        for name in ("step", data_phase, "forward", "backward", "wait", "reduce", "update"):
            runs[f"{name}_seconds"] = 1 / rate


def write_log(path, steps, steps_per_epoch, ranks, config):
    """Writes a log of any length, with a cost that decreases to 0.1."""
    epochs = steps // steps_per_epoch
    numbers = np.arange(1, epochs + 1)
    fall = 2.2 / (1 + 5 * numbers / epochs)
    columns = {"epoch": numbers, "step": numbers * steps_per_epoch, "train_cost": fall + 0.1, "test_cost": fall + 0.2,
               "train_accuracy": 1 - fall / 5, "test_accuracy": 1 - fall / 4, "learning_rate": np.full(epochs, 0.1),
               "seconds": np.full(epochs, 2.0), "samples_per_second": np.full(epochs, 5000.0),
               "fingerprint": numbers.astype(np.uint64)}
    with h5py.File(path, "w") as file:
        file["steps/accuracy"] = np.full(steps, 0.5, np.float32)
        file["steps/cost"] = (0.1 + 2.2 / (1 + np.arange(steps, dtype=np.float32) / 1e5)).astype(np.float32)
        for name, values in columns.items():
            file[f"epochs/{name}"] = values
        for phase in ("compute", "reduce", "wait", "data"):
            file[f"ranks/{phase}_seconds"] = np.full((epochs, ranks), 0.5)
        file.attrs.update({"format_version": 3, "ranks": ranks, "nodes": 1, "parameters": 7850, "dataset": "MNIST",
                           "config": config})


class ReportTest(testing.DtrainTestCase):
    def report(self, *arguments, expect=testing.EXIT_OK, name="page.html"):
        """The page, or None if none was written, and the messages except those of progress."""
        output = self.folder / name
        result = testing.run("dtrain-report", *arguments, "-o", output, cwd=self.folder)
        self.assertEqual(result.code, expect, result)
        messages = [line for line in result.messages() if not PROGRESS.match(line)]
        if not output.exists():
            return None, messages
        self.assertLess(output.stat().st_size, MOST_BYTES)
        page = Page(output.read_text(encoding="utf-8"))
        self.assertEqual(page.problems, [])
        self.assertEqual(page.external(), [])
        for target in page.targets():
            self.assertIn(target, page.by_id, "a link leads nowhere")
        return page, messages

    def assert_named(self, text, page, messages):
        """A problem is named on the page and on stderr."""
        self.assertTrue(any(text in line for line in messages), f"{text} is not in {messages}")
        self.assertIn(text, page.text)

    def test_page_of_a_run(self):
        layers = "conv 3x5x5 stride 2 relu, maxpool 2, dense 12 tanh, dense 10"
        run = self.train({"model.layers": layers, "model.cost": "cross_entropy", "training.learning_rate": 0.1,
                          "training.schedule": "step", "training.decay_epochs": 1}, ranks=2)
        page, messages = self.report(run.folder)
        self.assertEqual(messages, [])

        log = run.log()
        last = {name: log.datasets[f"/epochs/{name}"][-1] for name in
                ("test_cost", "train_cost", "train_accuracy", "test_accuracy", "learning_rate", "fingerprint")}
        self.assertAlmostEqual(page.number("test-accuracy"), last["test_accuracy"], delta=0.51e-4)
        self.assertAlmostEqual(page.number("train-accuracy"), last["train_accuracy"], delta=0.51e-4)
        for shown, expected in {"test-cost": last["test_cost"], "train-cost": last["train_cost"],
                                "learning-rate": last["learning_rate"], "epochs": 2, "ranks": 2,
                                "steps": len(log.datasets["/steps/cost"]),
                                "rate": np.median(log.datasets["/epochs/samples_per_second"]),
                                "parameters": log.attributes["parameters"]}.items():
            self.assertAlmostEqual(page.number(shown), expected, delta=SIGNIFICANT * expected, msg=shown)
        self.assertEqual(page.by_id["fingerprint"], f"{last['fingerprint']:016x}")
        self.assertEqual(page.by_id["config"], log.attributes["config"].strip())

        counts = np.array([[int(cell) for cell in row[1:]] for row in page.tables["confusion"][1:]])
        np.testing.assert_array_equal(counts.sum(1), np.bincount(self.arrays["test_labels"], minlength=10))
        self.assertAlmostEqual(np.trace(counts) / counts.sum(), last["test_accuracy"], delta=1e-9)
        for part in ("weights", "activations", "surface"):
            self.assertIn(part, page.by_id)
        self.assertIn("1 conv 3x5x5 stride 2 relu", page.by_id["activations"])
        alternatives = [value for _, name, value in page.attributes if name in ("alt", "aria-label")]
        self.assertEqual(sum(text.startswith("Weights of feature map") for text in alternatives), 3)
        for chart in ("Cost of each step's batch", "Cost of each epoch", "Accuracy in percent", "Learning rate",
                      "Seconds per epoch by phase, mean", "Seconds per epoch by phase on each", "Contours of the cost"):
            self.assertTrue(any(text.startswith(chart) for text in alternatives), f"no chart of {chart}")

        first = (self.folder / "page.html").read_bytes()
        self.report(run.folder, name="again.html")
        self.assertEqual((self.folder / "again.html").read_bytes(), first)
        for title in ("Training", "Time", "Test set", "Confusion matrix", "Inside the network", "Config"):
            self.assertIn(title, page.by_id["contents"])
        self.assertEqual(page.by_id["state"], "complete")
        self.assert_fits("page.html")
        with Browser((self.folder / "page.html").as_uri()) as browser:
            self.check_contrast(browser)
            self.assertEqual(browser.messages, [])

    def check_contrast(self, browser):
        """The counts of the confusion matrix can be read in both colour schemes (WCAG 2.2, 1.4.3)."""
        for scheme in ("light", "dark"):
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            cells = browser.value(COLOURS)
            self.assertEqual(len(cells), 100)
            for text, cell, page in cells:
                *cell, alpha = [*cell, 1][:4]
                background = alpha * np.array(cell) + (1 - alpha) * np.array(page)
                self.assertGreaterEqual(contrast_of(text, background), 4.5, (scheme, text, background))

    def need_chromium(self):
        if not CHROMIUM:
            self.skipTest("there is no chromium to open the page with")

    def assert_fits(self, name):
        """On a phone, only the inside of a row or a table scrolls sideways, never the page. This is the last check of a
        test, which is skipped without Chromium."""
        self.need_chromium()
        widths = (375, 800, 1200)
        for width, found in zip(widths, measure(self.folder / name, *widths), strict=True):
            self.assertEqual(found["wide"], [], f"wider than a page of {width} pixels")
            self.assertEqual(found["scroll_width"], found["width"])
            self.assertGreater(found["width"], width - 20)

    def test_elements_that_are_too_wide_are_found(self):
        """The check of widths can fail."""
        self.need_chromium()
        page = self.folder / "wide.html"
        page.write_text('<!DOCTYPE html><p style="width: 500px">wide</p><div style="overflow: auto"><p style="width: '
                        '500px">scrolls</p></div>')
        self.assertEqual(measure(page, 375)[0]["wide"], ['<p class="null"> wide'])

    def test_chromium_reports_errors(self):
        """The check of the console can fail."""
        self.need_chromium()
        page = self.folder / "bad.html"
        page.write_text("<!DOCTYPE html><script>undefined_function()</script>")
        with Browser(page.as_uri()) as browser:
            self.assertTrue(browser.messages)

    def test_unfinished_and_resumed_runs(self):
        run = self.train({"training.epochs": 1}, ranks=3)
        self.train({"training.epochs": 2}, "--training.epochs=2", ranks=2)
        self.assertTrue(np.isnan(run.log().datasets["/ranks/compute_seconds"]).any())
        with h5py.File(run.folder / "log.h5", "r+") as log:
            log.attrs["config"] = log.attrs["config"].replace("epochs = 2\n", "epochs = 7\n")
        shutil.copytree(run.folder, self.folder / "fresh")
        (self.folder / "fresh" / "log.h5").unlink()  # as during the first epoch

        page, messages = self.report(run.folder)
        self.assertEqual(messages, [])
        self.assertEqual(page.by_id["state"], "unfinished")
        self.assertIn("2 of 7 epochs so far", page.text)
        compute, reduce, wait = (run.log().datasets[f"/ranks/{phase}_seconds"] for phase in
                                 ("compute", "reduce", "wait"))
        slowest = np.nanargmax(compute[1])
        alternatives = [value for _, name, value in page.attributes if name == "aria-label"]
        for summary in (f"mean over ranks: compute {np.nanmean(compute):.4g} s, reduce {np.nanmean(reduce):.4g} s, "
                     f"wait {np.nanmean(wait):.4g} s",
                     f"each of 2 ranks; rank {slowest} has the longest compute time, {compute[1, slowest]:.4g} s"):
            self.assertTrue(any(summary in text for text in alternatives), f"{summary} is not in {alternatives}")
        self.assertIn("Only of the epochs on this number of ranks.", page.text)
        self.assertNotIn("nan", page.text.lower())

        log, expected = run.log(), page.number("test-accuracy")
        page, messages = self.report("fresh")
        self.assert_named("fresh/log.h5 is missing", page, messages)
        self.assertEqual(page.number("test-accuracy"), expected)
        self.assertEqual(page.number("steps"), len(log.datasets["/steps/cost"]))
        page, messages = self.report("fresh/checkpoints")
        self.assertEqual(messages, [])
        self.assertEqual(page.number("test-accuracy"), expected)
        self.assertIn("confusion", page.by_id)

    def test_checkpoints_that_are_replaced_meanwhile(self):
        """During an evaluation a newer checkpoint replaces the evaluated one, twice."""
        run = self.train({"training.epochs": 1})
        newest, = (run.folder / "checkpoints").glob("step-*.h5")
        evaluator = self.folder / "evaluator"
        evaluator.write_text(
            "#!/bin/bash\nstep=${1##*-} step=${step%.h5} next=${1%/*}/step-$(printf %08d $((10#$step + 1))).h5\n"
            f'((10#$step >= 10#{newest.name[5:-3]} + 2)) ||\n'
            '    { mv "$1" "$next"; echo "$1: no such file" >&2; exit 4; }\n'
            f'exec "{testing.BIN / "dtrain-eval"}" "$@"\n')
        evaluator.chmod(0o755)
        page, messages = self.report(run.folder, "--eval", evaluator)
        self.assertEqual(messages, [])
        self.assertIn("confusion", page.by_id)
        self.assertIn("weights", page.by_id)

    def test_checkpoints_that_are_removed_after_the_evaluation(self):
        """As during a fast training that keeps few checkpoints."""
        run = self.train({"output.keep_checkpoints": 0})
        step = int(run.checkpoints()[-1].stem[5:])
        evaluator = self.folder / "evaluator"
        evaluator.write_text(f'#!/bin/bash\n"{testing.BIN / "dtrain-eval"}" "$@" && rm "${{1%/*}}"/*.h5\n')
        evaluator.chmod(0o755)
        page, messages = self.report(run.folder, "--eval", evaluator)
        self.assertEqual((messages, run.checkpoints()), ([], []))
        for shown in ("evaluated-step", "weights-step"):
            self.assertEqual(page.by_id[shown].replace(",", ""), str(step))
        self.assertIn(f"The page holds the network after step {step:,} and", page.text)
        self.assertRegex(page.text, r"one of\s+2 checkpoints")

    def test_first_layer_with_weights(self):
        """Batch normalisation has weights too, but no sums of inputs."""
        run = self.train({"model.layers": "maxpool 2, batchnorm relu, dense 10", "model.cost": "cross_entropy"})
        page, messages = self.report(run.folder)
        self.assertEqual(messages, [])
        self.assertIn("Weights of layer 3 (dense)", page.text)
        alternatives = [value for _, name, value in page.attributes if name == "alt"]
        self.assertEqual(sum(text.startswith("Weights of neuron ") for text in alternatives), 10)

    def test_interrupted_in_the_first_epoch(self):
        run = self.train({"training.epochs": 0})
        page, messages = self.report(run.folder)
        self.assertEqual(page.number("steps"), 0)
        self.assertNotIn("test-accuracy", page.by_id)
        self.assertNotIn("last finished epoch", page.text)
        self.assertIn("weights", page.by_id)

    def test_bad_files_are_named_and_the_rest_is_shown(self):
        run = self.train(output="good")
        bad = {"cut.h5": (run.folder / "log.h5").read_bytes()[:-5000], "notes.txt": b"no HDF5 at all", "empty.h5": b""}
        damaged = bytearray((run.folder / "log.h5").read_bytes())
        costs = run.log().datasets["/steps/cost"].tobytes()
        damaged[damaged.index(costs) + 3] ^= 1
        bad["damaged.h5"] = bytes(damaged)
        for name, contents in bad.items():
            (self.folder / name).write_bytes(contents)
        with h5py.File(self.folder / "foreign.h5", "w") as file:
            file["weights"] = np.zeros(3)
        with h5py.File(self.folder / "kind.h5", "w") as file:
            file.attrs["kind"] = "<b>evaluation"
        with h5py.File(self.folder / "huge.h5", "w") as file:
            file.attrs["format_version"] = 3
            file.create_dataset("epochs/epoch", (10**12,), np.int64, chunks=(1024,))
        (self.folder / "folder").mkdir()
        names = [*bad, "foreign.h5", "kind.h5", "huge.h5", "folder", "missing"]
        before = testing.snapshot(self.folder)
        page, messages = self.report(*names, expect=EXIT_NOTHING_SHOWN)
        self.assertIsNone(page)
        self.assertEqual(testing.snapshot(self.folder), before)
        self.assertEqual([line.split(":")[1].strip() for line in messages], names)
        for name, words in {"huge.h5": "larger than the file", "foreign.h5": "format_version is missing",
                            "damaged.h5": "is damaged", "cut.h5": "truncated"}.items():
            self.assertIn(words, next(line for line in messages if f" {name}:" in line))

        # The log and the newest checkpoint of a run: the previous checkpoint is used instead.
        for path in (run.folder / "log.h5", run.checkpoints()[-1]):
            path.write_bytes(path.read_bytes()[:-4000])
        page, messages = self.report(run.folder, "kind.h5")
        for name in ("good/log.h5", run.checkpoints()[-1].name, "kind.h5: neither"):
            self.assert_named(name, page, messages)
        self.assertEqual(page.number("epochs"), 1)
        used = run.checkpoints()[-2]
        self.assertEqual(page.by_id["checkpoint"], used.name)
        for shown in ("evaluated-step", "weights-step"):
            self.assertEqual(page.by_id[shown].replace(",", ""), str(int(used.stem[5:])))
        self.assertIn("newer checkpoints cannot be read", page.text)
        self.assertIn("confusion", page.by_id)

    def test_without_data(self):
        data = self.folder / "data"
        shutil.copytree(self.data, data)
        run = self.train({"data.directory": data})
        shutil.rmtree(data)
        page, messages = self.report(run.folder)
        self.assertIn(str(data), page.by_id["evaluation-failed"])
        self.assertEqual(len(messages), 1, messages)
        self.assertIn("data.directory", page.by_id["evaluation-failed"])
        self.assert_named(page.by_id["evaluation-failed"].partition("surface: ")[2].strip(), page, messages)
        self.assertNotIn("confusion", page.by_id)
        self.assertIn("weights", page.by_id)
        page, _ = self.report("--eval", self.folder / "no-program", run.folder)
        self.assertIn("no-program", page.by_id["evaluation-failed"])

    def test_data_are_found_from_elsewhere(self):
        (self.folder / "data").symlink_to(self.data)
        self.train({"data.directory": "data", "output.directory": "runs/a"})
        (self.folder / "other").mkdir()
        result = testing.run("dtrain-report", "../runs/a", "-o", "page.html", cwd=self.folder / "other")
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertIn("confusion", Page((self.folder / "other/page.html").read_text()).by_id)

    def test_data_that_were_moved(self):
        (self.folder / "data").symlink_to(self.data)
        run = self.train({"data.directory": "data", "training.epochs": 1})
        (self.folder / "data").unlink()
        page, messages = self.report(run.folder)
        self.assert_named("if the data were moved, use --data", page, messages)
        page, messages = self.report(run.folder, "--data", os.path.relpath(self.data, self.folder))
        self.assertEqual(messages, [])
        self.assertIn("confusion", page.by_id)
        result = testing.run("dtrain-report", run.folder, "other", "--data", "data", cwd=self.folder)
        self.assertEqual((result.code, result.messages()[-1]),
                         (testing.EXIT_BAD_CONFIG, "dtrain-report: error: --data needs a single run"))

    def test_several_runs_and_scaling(self):
        runs = [self.train({"training.batch_size": size, "training.epochs": 1, "model.seed": seed},
                           output=f"batch-{size}-{seed}") for size, seed in ((32, 1), (64, 1), (64, 2))]
        rows = [(0, 1, 0, "here <&>", 100.0), (0, 2, 0, "here <&>", 180.0), (0, 2, 0, "here <&>", 184.0),
                (0, 4, 1, "fat tree", 300.0), (0, 8, 1, "fat tree", 420.0), (1, 1, 0, "here <&>", 90.0)]
        write_scaling(self.folder / "scaling.h5", rows, data_phase="fetch")  # the name in older versions
        page, messages = self.report(*(run.folder for run in runs), "scaling.h5")
        self.assertEqual(messages, [])
        accuracy = {run.folder.name: run.log().datasets["/epochs/test_accuracy"][-1] for run in runs}
        runs.sort(key=lambda run: -accuracy[run.folder.name])
        best = max(accuracy.values())
        self.assertEqual(page.tables["runs"][0],
                         ["run", "test accuracy", "difference", "model.seed", "training.batch_size", "state"])
        self.assertIn("Ordered by the test accuracy of the last epoch", page.text)
        for run, row, figures in zip(runs, page.tables["runs"][1:], page.tables["figures"][1:], strict=True):
            name = run.folder.name
            self.assertEqual(row[0], name)
            self.assertAlmostEqual(float(row[1].removesuffix(" %")) / 100, accuracy[name], delta=0.51e-4)
            self.assertEqual(row[2], "best" if accuracy[name] == best else f"−{100 * (best - accuracy[name]):.2f}")
            self.assertEqual(row[3:], [name.split("-")[2], name.split("-")[1], "complete"])
            self.assertEqual([figures[0], figures[-1]], [name, run.fingerprint()])
        self.assertNotIn("differing", page.tables)
        alternatives = [value for _, name, value in page.attributes if name == "aria-label"]
        self.assertTrue(any(text.startswith("Test accuracy over training.batch_size: ") for text in alternatives))

        self.assertEqual(page.tables["check"], [["ranks", "difference"], ["1", "+1.5 %"]])
        strong, weak = (page.tables[f"{mode}-scaling"][1:] for mode in ("strong", "weak"))
        self.assertEqual([[" ".join(cell.split()) for cell in row[:3]] for row in strong],
                         [["● measured", "here <&>", "1"], ["● measured", "here <&>", "2"],
                          ["□ simulated", "fat tree", "4"], ["□ simulated", "fat tree", "8"]])
        self.assertEqual([" ".join(row[0].split()) for row in weak], ["● measured"])
        self.assertEqual([row[-2:] for row in strong],
                         [["1 (0.9 – 1.1)", "1.000 (0.900 – 1.100)"], ["1.82 (1.8 – 1.84)", "0.910 (0.900 – 0.920)"],
                          ["4 (3.6 – 4.4)", "1.000 (0.900 – 1.100)"], ["5.6 (5.04 – 6.16)", "0.700 (0.630 – 0.770)"]])
        for chart in ("Speed-up, strong scaling", "Efficiency, weak scaling",
                      "Phases of a step, strong scaling, measured on here",
                      "Phases of a step, strong scaling, simulated on fat tree"):
            self.assertTrue(any(text.startswith(chart) for text in alternatives), chart)
        efficiency = next(text for text in alternatives if text.startswith("Efficiency, strong scaling"))
        self.assertIn("measured on here <&>: 1 (0.9 to 1.1) at 1, 0.91 (0.9 to 0.92) at 2; "
                      "simulated on fat tree: 1 (0.9 to 1.1) at 4", efficiency)
        self.assert_fits("page.html")

    def test_unreliable_simulation(self):
        rows = [(0, 1, 0, "here", 100.0), (0, 4, 1, "fat tree", 300.0)]
        for difference, unreliable in (("+1.5 %", False), ("+96 %: more than 15 %, so it is unreliable", True)):
            write_scaling(self.folder / "scaling.h5", rows)
            with h5py.File(self.folder / "scaling.h5", "r+") as file:
                file.attrs["simulation_check"] = f"| ranks | difference |\n|---|---|\n| 1 | {difference} |"
            page, _ = self.report("scaling.h5")
            self.assertEqual("too much to rely on the simulation" in page.text, unreliable)

    def write_run(self, name, test_accuracy, validation_accuracy=None, config=None, cost=0.1, epochs=20):
        """Writes the log of a run of `epochs` epochs with these accuracies after the last one."""
        text = "".join(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
                       for section, keys in (config or {"training": {"epochs": 20}}).items())
        (self.folder / name).mkdir()
        write_log(self.folder / name / "log.h5", 40, 40 // epochs, 1, text)
        with h5py.File(self.folder / name / "log.h5", "r+") as log:
            log["epochs/test_accuracy"][-1] = test_accuracy
            log["epochs/train_cost"][-1] = cost
            if validation_accuracy is not None:
                log["epochs/validation_cost"] = np.full(epochs, 0.3)
                log["epochs/validation_accuracy"] = np.linspace(0.5, validation_accuracy, epochs)

    def compare(self, *names):
        """The rows (name, accuracy, difference, state) of the comparison, and the page."""
        page, _ = self.report(*names)
        return [[row[0], row[1], row[2], row[-1]] for row in page.tables["runs"][1:]], page

    def test_runs_are_ordered(self):
        """Runs without a rank come last. Their accuracy may be the highest."""
        self.write_run("poor", 0.9)
        self.write_run("good", 0.95)
        self.write_run("unfinished", 0.99, epochs=10)
        self.write_run("diverged", 0.98, cost=np.nan)
        self.write_run("untested", np.nan)
        rows, page = self.compare("diverged", "poor", "unfinished", "untested", "good")
        self.assertEqual(rows, [
            ["good", "95.00 %", "best", "complete"], ["poor", "90.00 %", "−5.00", "complete"],
            ["diverged", "98.00 %", "–", "diverged: the training cost of epoch 20 is not a finite number"],
            ["unfinished", "99.00 %", "–", "unfinished: 10 of 20 epochs so far"],
            ["untested", "–", "–", "no test accuracy"]])
        self.assertIn("The runs have the same settings", page.text)
        curve = next(value for _, name, value in page.attributes
                     if name == "aria-label" and value.startswith("Test accuracy in percent"))
        self.assertEqual(re.findall(r"(\w+): from", curve), ["good", "poor", "diverged", "unfinished", "untested"])

    def test_runs_are_ordered_by_validation_accuracy_if_all_have_it(self):
        self.write_run("a", 0.9, 0.8)
        self.write_run("b", 0.8, 0.9)
        self.write_run("unfinished", 0.99, epochs=10)
        rows, page = self.compare("a", "b", "unfinished")
        self.assertEqual([row[:3] for row in rows],
                         [["b", "90.00 %", "best"], ["a", "80.00 %", "−10.00"], ["unfinished", "–", "–"]])
        self.assertIn("Ordered by the validation accuracy of the best epoch", page.text)
        self.write_run("c", 0.85)
        rows, page = self.compare("a", "b", "c")
        self.assertEqual([row[:3] for row in rows],
                         [["a", "90.00 %", "best"], ["c", "85.00 %", "−5.00"], ["b", "80.00 %", "−10.00"]])
        self.assertIn("Ordered by the test accuracy of the last epoch", page.text)

    def test_run_without_log_and_checkpoint(self):
        """As after a divergence in the first epoch."""
        run = self.train({"training.learning_rate": 1e6, "model.layers": "dense 30 relu, dense 10"},
                         expect=testing.EXIT_DIVERGED, output="diverged")
        self.write_run("good", 0.9)
        page, messages = self.report("good", run.folder)
        self.assert_named("it has just begun, or it diverged or failed in its first epoch", page, messages)

    def test_many_settings_that_differ(self):
        keys = [f"key_{index}" for index in range(7)]
        for index, name in enumerate(("first", "second")):
            self.write_run(name, 0.8 + index / 10, config={
                "training": {"epochs": 20}, "model": {"cost": ("quadratic", "cross_entropy")[index]},
                "augment": {key: index for key in keys} | {"same": 1}, "output": {"directory": name}})
            with h5py.File(self.folder / name / "log.h5", "r+") as log:
                log.attrs["dataset"] = f"data of the {name}"
        _, page = self.compare("first", "second")
        self.assertEqual(page.tables["runs"][0], ["run", "test accuracy", "difference", "state"])
        self.assertEqual(page.tables["differing"], [
            ["setting", "second", "first"], ["model.cost", "cross_entropy", "quadratic"],
            *([f"augment.{key}", "1", "0"] for key in keys),
            ["data set", "data of the second", "data of the first"]])
        self.assertIn("The runs have different data sets", page.text)
        self.assertIn("Curves of the cost are left out", page.text)
        self.assert_fits("page.html")

    def test_unfinished_runs_are_not_among_the_results(self):
        for size, epochs in ((32, 1), (64, 1), (128, 9)):
            run = self.train({"training.batch_size": size, "training.epochs": 1}, output=f"batch-{size}")
            with h5py.File(run.folder / "log.h5", "r+") as log:
                log.attrs["config"] = log.attrs["config"].replace("epochs = 1\n", f"epochs = {epochs}\n")
        page, _ = self.report("batch-32", "batch-64", "batch-128")
        over, = (value for _, name, value in page.attributes
                 if name == "aria-label" and value.startswith("Test accuracy over training.batch_size: "))
        self.assertRegex(over, r"% at 32, .* % at 64\.$")

    def test_ten_million_steps(self):
        write_log(self.folder / "log.h5", 10_000_000, 1875, 64, "[training]\nepochs = 6000\n")
        begin = time.monotonic()
        page, messages = self.report("log.h5")
        self.assertLess(time.monotonic() - begin, 30)
        self.assertEqual(len(messages), 1, messages)
        self.assert_named("there is no checkpoint yet", page, messages)
        self.assertEqual(page.number("steps"), 10_000_000)
        self.assertLess((self.folder / "page.html").stat().st_size, 1_000_000)

    def test_accuracy_that_reaches_100_per_cent(self):
        write_log(self.folder / "log.h5", 40, 2, 1, "[training]\nepochs = 20\n")
        with h5py.File(self.folder / "log.h5", "r+") as log:
            log["epochs/train_accuracy"][-3:] = 1
        page, _ = self.report("log.h5")
        self.assertIn("logarithmic in the error rate", page.text)

    def test_bad_command_lines_and_output(self):
        for arguments in ((), ("--colour", "run"), ("run", "-o")):
            result = testing.run("dtrain-report", *arguments, cwd=self.folder)
            self.assertEqual(result.code, testing.EXIT_BAD_CONFIG, result)
            self.assertIn("usage: dtrain-report", result.stderr)
        write_scaling(self.folder / "scaling.h5", [(0, 1, 0, "here", 100.0)])
        result = testing.run("dtrain-report", "scaling.h5", "-o", "no/page.html", cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_BAD_OUTPUT, result)
        self.assertIn("no/page.html: No such file", result.stderr)
        self.assertEqual(os.listdir(self.folder), ["scaling.h5"])

    def test_names_that_are_not_utf_8(self):
        os.mkdir(os.fsencode(self.folder) + b"/\xff\xfe")
        name = os.fsdecode(b"\xff\xfe")
        for epochs in (1, 2):  # the second run resumes
            self.train({}, f"--output.directory={self.folder / name / 'run'}", f"--training.epochs={epochs}")
        page, messages = self.report(f"{name}/run", name=f"{name}/page.html")
        self.assertEqual(messages, [])
        self.assertIn("confusion", page.by_id)
        self.assertEqual(page.number("epochs"), 2)
        shutil.copytree(self.folder / name / "run", self.folder / name / "other")
        page, messages = self.report(f"{name}/run", f"{name}/other", name + "/none")
        self.assertEqual(len(messages), 1, messages)
        self.assertIn("no such file or folder", messages[0])
        self.assertEqual([row[0] for row in page.tables["runs"][1:]], ["run", "other"])

    def test_names_that_are_too_long(self):
        write_scaling(self.folder / "scaling.h5", [(0, 1, 0, "here", 100.0)])
        name = "x" * 300
        page, messages = self.report("scaling.h5", name)
        self.assert_named(f"{name}: File name too long", page, messages)
        for place in (name, f"{name}/page.html"):
            result = testing.run("dtrain-report", "scaling.h5", "-o", place, cwd=self.folder)
            self.assertEqual(result.code, testing.EXIT_BAD_OUTPUT, result)
            self.assertEqual(result.messages(), [f"dtrain-report: cannot write {place}: File name too long"])
        longest = "x" * 250 + ".html"
        self.assertEqual(testing.run("dtrain-report", "scaling.h5", "-o", longest, cwd=self.folder).code,
                         testing.EXIT_OK)

    def run_with(self, program=testing.BIN / "dtrain-report", **variables):
        return subprocess.run([program, "run"], cwd=self.folder, capture_output=True, text=True, timeout=60,
                              env={**testing.environment(), **variables})

    def test_modules_that_cannot_be_loaded_are_named_with_their_package(self):
        """One module is missing, the other belongs to another Python: pip's modules come before Debian's."""
        for module, failure in {"matplotlib": "ModuleNotFoundError('No module named matplotlib', name='matplotlib')",
                                "h5py": "ImportError('h5py was built for another Python\\nA page of advice')"}.items():
            site = self.folder / module / ".local/lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
            site.mkdir(parents=True)
            (site / f"{module}.py").write_text(f"raise {failure}\n")
            result = self.run_with(HOME=str(self.folder / module))
            self.assertEqual(result.returncode, testing.EXIT_BAD_CONFIG, result)
            self.assertRegex(result.stderr, rf"\Adtrain-report: .*{module}.*apt-get install .*python3-{module}.*\n\Z")

    def test_modules_of_another_python(self):
        """PYTHONPATH, which environment modules of clusters set, does not affect a program that has its own Python."""
        (self.folder / "h5py.py").write_text("raise ImportError('h5py was built for another Python')\n")
        for program in (testing.BIN / "dtrain-report", testing.SOURCE / "slurm/scaling.py"):
            result = self.run_with(program, PYTHONPATH=str(self.folder))
            self.assertNotIn("h5py", result.stderr)

    def test_sources_that_were_moved(self):
        launcher = self.folder / "dtrain-report"
        shutil.copy(testing.BIN / "dtrain-report", launcher)
        text = launcher.read_text()
        launcher.write_text(re.sub(r'FOLDER / "[^"]*"', f'FOLDER / "{self.folder}/moved/src"', text))
        result = self.run_with(launcher)
        self.assertEqual(result.returncode, testing.EXIT_BAD_CONFIG, result)
        self.assertRegex(result.stderr, r"\Adtrain-report: .*/moved/src/report\. Build or install dtrain again\n\Z")


class FilesAndProcessesTest(testing.DtrainTestCase):
    """What the program leaves behind, and where its files come from and go."""

    def test_signals_during_an_evaluation(self):
        run = self.train({"training.epochs": 1})
        slow, pid, temporary = (self.folder / name for name in ("slow-eval", "pid", "tmp"))
        # The program needs a moment to know the process that it has started.
        slow.write_text(f"#!/bin/sh\nsleep 0.3; echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 100\n")
        slow.chmod(0o755)
        temporary.mkdir()
        before = testing.snapshot(self.folder)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with self.subTest(number):
                words = testing.command("dtrain-report", run.folder, "-o", "page.html", "--eval", slow)
                with testing.Process(["env", f"TMPDIR={temporary}", *words], self.folder) as process:
                    process.wait_until(pid.exists)
                    evaluator = int(pid.read_text())
                    process.popen.send_signal(number)
                    result = process.wait(20)
                self.assertEqual(result.code, 128 + number, result)
                self.assertEqual([line for line in result.messages() if not PROGRESS.match(line)], [])
                self.assertFalse(Path(f"/proc/{evaluator}").exists(), "dtrain-eval is left behind")
                pid.unlink()
                self.assertEqual(testing.snapshot(self.folder), before)

    def test_signal_while_the_page_is_written(self):
        write_scaling(self.folder / "scaling.h5", [(0, 1, 0, "here", 100.0)])
        before = testing.snapshot(self.folder)
        code = "import os, pathlib, signal, sys\n" \
               f"sys.path.insert(0, {str(testing.SOURCE / 'src/report')!r})\n" \
               "import dtrain_report\n" \
               "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGTERM)\n" \
               "dtrain_report.main(['scaling.h5', '-o', 'page.html'], pathlib.Path(), 'test')\n"
        with testing.Process([sys.executable, "-c", code], self.folder) as process:
            result = process.wait(30)
        self.assertEqual(result.code, 128 + signal.SIGTERM, result)
        self.assertEqual(testing.snapshot(self.folder), before)

    def test_evaluator_with_a_relative_path(self):
        """The config has a relative path, too, so dtrain-eval starts in another folder."""
        (self.folder / "data").symlink_to(self.data)
        self.train({"data.directory": "data", "output.directory": "runs/a", "training.epochs": 1})
        (self.folder / "other").mkdir()
        (self.folder / "other/eval").symlink_to(testing.BIN / "dtrain-eval")
        with testing.Process(testing.command("dtrain-report", "../runs/a", "--eval", "./eval"),
                             self.folder / "other") as process:
            result = process.wait(60)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertIn("confusion", Page((self.folder / "other/report.html").read_text()).by_id)

    def test_links_stay(self):
        """Those to a file that exists, and to one that does not. Another program shares the code."""
        run = self.train({"training.epochs": 1})
        write_scaling(self.folder / "scaling.h5", [(0, 1, 0, "here", 100.0)])
        (self.folder / "pages").mkdir()
        for program, source, name in (("dtrain-report", "scaling.h5", "page.html"),
                                      ("dtrain-export", run.folder, "weights.safetensors")):
            link, target = self.folder / name, self.folder / "pages" / name
            link.symlink_to(f"pages/{name}")
            for state in ("dangling", "existing"):
                with self.subTest(program=program, state=state):
                    result = testing.run(program, source, "-o", name, cwd=self.folder)
                    self.assertEqual(result.code, testing.EXIT_OK, result)
                    self.assertEqual(os.readlink(link), f"pages/{name}")
                    self.assertGreater(target.stat().st_size, 100)
            self.assertEqual(os.listdir(target.parent), [name])
            target.unlink()

    def test_scaling_file_leaves_other_files_alone(self):
        spread = {"median": 5.0, "min": 4.0, "max": 6.0}
        phases = ("data", "forward", "backward", "reduce", "update", "wait")
        (self.folder / "strong-ranks0002-repeat1.json").write_text(json.dumps(
            {"ranks": 2, "nodes": 1, "batch_size": 1, "samples_per_second": spread, "layers": "dense 10",
             "parameters": 7850, "dtrain_version": "0.1.0", "phases": {name: {"seconds": 2.0} for name in phases}}))
        (self.folder / "scaling.h5.tmp").write_text("of another program")
        subprocess.run([sys.executable, testing.SOURCE / "slurm/scaling.py", "collect", "--output", "scaling.h5",
                        "--platform", "here", "strong-ranks0002-repeat1.json"], cwd=self.folder, check=True)
        self.assertEqual((self.folder / "scaling.h5.tmp").read_text(), "of another program")
        self.assertEqual(sorted(os.listdir(self.folder)),
                         ["scaling.h5", "scaling.h5.tmp", "strong-ranks0002-repeat1.json"])
        self.assertEqual(testing.run("dtrain-report", "scaling.h5", cwd=self.folder).code, testing.EXIT_OK)

    def test_cost_surface_without_numbers_leaves_no_figure(self):
        code = f"import sys; sys.path.insert(0, {str(testing.SOURCE / 'src/report')!r})\n" \
               "import charts, evaluation, numpy as np\n" \
               "surface = evaluation.Surface(np.zeros(2), np.zeros(2), np.full((2, 2), np.nan), np.zeros((4, 0)), " \
               "np.zeros(2), {})\n" \
               "assert evaluation.surface_chart(surface, 'cost') is None\n" \
               "assert not charts.pyplot.get_fignums()\n"
        subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    testing.main()
