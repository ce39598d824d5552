"""The network in the page of a run: it computes what dtrain computes, explains it, and follows drawing and film."""

import base64
import json
import math
import re
import sys
import unittest
from pathlib import Path

import h5py
import numpy as np
import xxhash

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402
from browser import CHROMIUM, Browser  # noqa: E402
from page_reading import Page  # noqa: E402

SAMPLES = 20
TOLERANCE = 2e-3  # absolute; outputs are at most 1, and the page rounds weights to float16
MOST_BYTES = 5_000_000
MOST_SAMPLE_BYTES = 250_000
CROSS_ENTROPY = {"model.cost": "cross_entropy", "training.learning_rate": 0.1}
DENSE = {"model.layers": "dense 16 sigmoid, dense 10 sigmoid", "model.cost": "quadratic"}
CONVOLUTION = {**CROSS_ENTROPY,
               "model.layers": "conv 5x5x5 pad 2 stride 2, batchnorm relu, maxpool 2, conv 6x3x3 pad 1 tanh, avgpool 2, "
                               "dropout 0.2, dense 20, batchnorm relu, dense 10"}
BFLOAT16 = {**CROSS_ENTROPY, "model.layers": "dense 24 relu, dense 10", "training.precision": "bfloat16",
            "training.learning_rate": 0.03}
LSTM = {**CROSS_ENTROPY, "model.layers": "dropout 0.1, lstm 12, dense 10", "training.learning_rate": 0.5}

# The network of the page, and what it computes for samples in base64.
COMPUTE = """(() => {
    const data = JSON.parse(document.getElementById("network-data").textContent);
    %s
    const network = new Network(data);
    network.load(data.checkpoints.at(-1).weights);
    return %s.map(sample => Array.from(network.forward(Float32Array.from(bytesOf(sample), x => x / 255)).outputs));
})()"""
# The same for the samples of the page: their places in the test set, and the outputs.
COMPUTE_OWN = """(() => {
    const data = JSON.parse(document.getElementById("network-data").textContent), network = new Network(data);
    network.load(data.checkpoints.at(-1).weights);
    return data.samples.map(sample => [sample.index, Array.from(network.forward(samplePixels(sample)).outputs)]);
})()"""
# Explanations of some units of each layer, with the weighted sums.
EXPLAIN = """(() => {
    const data = JSON.parse(document.getElementById("network-data").textContent), network = new Network(data);
    network.load(data.checkpoints.at(-1).weights);
    const sample = Float32Array.from(bytesOf(%s), x => x / 255), result = network.forward(sample);
    return result.stages.flatMap(({layer, sums, activations}, number) => [0, 0.4, 1].map(place => {
        const unit = Math.floor(place * (sums.length - 1));
        return {kind: layer.kind, z: sums[unit], a: activations[unit],
                ...explain(network, sample, data.shape, result, number, unit)};
    }));
})()"""
STATE = """({network: document.getElementById("network-canvas").toDataURL(),
    weights: [...document.querySelectorAll("#film-weights canvas")].map(canvas => canvas.toDataURL()).join(),
    marker: ["cx", "cy"].map(name => Number(document.getElementById("film-marker").getAttribute(name))),
    cursor: document.getElementById("film-cursor").getAttribute("d"),
    step: document.getElementById("film-step").textContent,
    outputs: document.getElementById("network-explanation").textContent})"""
# Columns of layers of many units, and whether some units are found where they are drawn.
FIT = """[[new Dots(200, false), 200], [new Dots(1500, false), 1500], [new Dots(30000, false), 30000],
          [new Dots(1000, true), 1000], [new States(400, 28), 400], [new States(5, 3000), 5],
          [new Maps([300, 5, 5], 64), 7500], [new Maps([1, 3000, 2], 140), 6000]].map(([column, count]) => ({
    height: column.height, limit: HEIGHT,
    areFound: [0, Math.floor(count / 2), count - 1].every(unit => {
        const [x, y] = column.place(unit);
        return x <= column.width && y <= column.height && column.unitAt(x, y) === unit;
    })
}))"""
# How often the page computes the network and takes a sample from the drawing, up to the next frame after some events.
COUNT = """new Promise(resolve => {
    const calls = {forward: 0, sample: 0}, {forward} = Network.prototype, {sample} = Drawing.prototype;
    Network.prototype.forward = function (...values) { ++calls.forward; return forward.apply(this, values); };
    Drawing.prototype.sample = function (...values) { ++calls.sample; return sample.apply(this, values); };
    const canvas = document.getElementById("%s"), area = canvas.getBoundingClientRect();
    const move = (x, y, rest) => new PointerEvent("pointermove", {pointerId: 1, pointerType: "mouse",
        clientX: area.x + x, clientY: area.y + y, ...rest});
    for (let i = 0; i < 5; ++i)
        canvas.dispatchEvent(move(70 + 5 * i, 200, {coalescedEvents: [move(70 + 5 * i, 170), move(70 + 5 * i, 90)]}));
    setTimeout(() => requestAnimationFrame(() => setTimeout(() => {
        Network.prototype.forward = forward;
        Drawing.prototype.sample = sample;
        resolve(calls);
    })));
})"""
# The points of the path on the cost surface, as the chart draws them.
PATH = """[...document.querySelectorAll("#chart-surface use")]
    .map(point => [Number(point.getAttribute("x")), Number(point.getAttribute("y"))])"""
PREDICTION = 'document.getElementById("network-prediction").textContent'


@unittest.skipUnless(CHROMIUM, "there is no chromium to open the page with")
class PageNetworkTest(testing.DtrainTestCase):
    def page_of(self, run, *options):
        """The path of the page of a run."""
        path = self.folder / "page.html"
        result = testing.run("dtrain-report", run.folder, "-o", path, *options, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertLess(path.stat().st_size, MOST_BYTES)
        page = Page(path.read_text(encoding="utf-8"))
        self.assertEqual((page.problems, page.external()), ([], []))
        return path

    def open(self, path, **size):
        browser = Browser(path.as_uri(), **size)
        self.addCleanup(lambda: self.assertEqual(browser.messages, [], "the console has messages"))
        return browser

    def outputs_of(self, run):
        """What dtrain computes for the test samples, and its predictions."""
        file = self.folder / "record.h5"
        result = testing.run("dtrain-eval", run.folder, "--record", file, "--surface", 0, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        datasets = testing.read_h5(file).datasets
        return datasets["/samples/output"], datasets["/samples/prediction"]

    def samples(self):
        return [base64.b64encode(image.tobytes()).decode() for image in self.arrays["test_images"][:SAMPLES]]

    def check_explanations(self, browser):
        """The numbers of each weighted sum add up."""
        found = browser.value(EXPLAIN % json.dumps(self.samples()[0]))
        for unit in found:
            text = unit["lines"][0].replace("−", "-")
            self.assertTrue(unit["pictures"] or unit["kind"] in ("batchnorm", "dropout"), unit["title"])
            if unit["kind"] not in ("dense", "conv"):
                continue
            terms = text.removeprefix("z = Σ w·a + b = ").rpartition(" = ")[0]
            total = eval(re.sub(r" \([^)]*\)", "", terms).replace("·", "*"))
            self.assertAlmostEqual(total, unit["z"], delta=0.02 * (1 + abs(unit["z"])), msg=text)

    def test_outputs_equal_those_of_dtrain(self):
        for name, settings in {"dense": DENSE, "conv": CONVOLUTION, "lstm": LSTM, "bfloat16": BFLOAT16}.items():
            with self.case(name):
                run = self.train(settings)
                expected, predictions = self.outputs_of(run)
                expected = expected[:SAMPLES]
                self.assertGreater(np.ptp(expected, axis=0).max(), 50 * TOLERANCE, "the outputs are all the same")
                with self.open(self.page_of(run)) as browser:
                    samples = json.dumps(self.samples())
                    outputs = np.array(browser.value(COMPUTE % ("", samples)))
                    difference = np.abs(outputs - expected).max()
                    print(f"{name}: maximum difference {difference:.1e}", flush=True)
                    self.assertEqual(outputs.shape, expected.shape)
                    self.assertLessEqual(difference, TOLERANCE)
                    note = browser.value("document.querySelector('#network .note').textContent")
                    self.assertEqual("bfloat16" in note, name == "bfloat16")
                    self.check_explanations(browser)
                    for place in (0, -1):
                        button = f"[...document.querySelectorAll('#network-samples button')].at({place})"
                        title = browser.value(f"{button}.title")
                        browser.value(f"{button}.click()")
                        index = int(re.search(r"sample (\d+)", title)[1])
                        self.assertIn(f"Predicted class: {predictions[index]} ", browser.value(PREDICTION))
                    if name == "conv":  # the comparison can fail: a padding of 3 gives maps of the same size
                        wrong = "data.layers[0].padding = 3;"
                        outputs = np.array(browser.value(COMPUTE % (wrong, samples)))
                        self.assertGreater(np.abs(outputs - expected).max(), 5 * TOLERANCE)
                    self.assertEqual(browser.messages, [])

    def test_samples_of_floats(self):
        """Of any scale: features are around 100,000. There is no field, since a drawing would have another scale."""
        labels = {part: self.arrays[f"{part}_labels"] for part in ("train", "test")}
        random = np.random.default_rng(1)
        for name, shape, offset, layers, reason in (
                ("features", (6,), 1e5, "batchnorm, dense 10", "A sample is not one image"),
                ("images", (60, 60), 0, "dense 10", "The samples are not images of bytes")):
            with self.case(name):
                means = {part: offset + values.reshape(-1, *(1 for _ in shape)) / 4 for part, values in labels.items()}
                testing.write_dataset(self.folder / "data", {
                    f"{part}_images": (mean + random.normal(0, 1, (len(mean), *shape))).astype(np.float32)
                    for part, mean in means.items()} | {f"{part}_labels": values for part, values in labels.items()})
                run = self.train({**CROSS_ENTROPY, "data.directory": self.folder / "data", "model.layers": layers,
                                  "training.learning_rate": 0.01, "training.batch_size": 16})
                expected, _ = self.outputs_of(run)
                self.assertGreater(np.ptp(expected, axis=0).max(), 50 * TOLERANCE, "the outputs are all the same")
                path = self.page_of(run)
                page = Page(path.read_text(encoding="utf-8"))
                self.assertNotIn("network-field", page.by_id)
                self.assertIn(reason, page.text)
                with self.open(path) as browser:
                    found = browser.value(COMPUTE_OWN)
                    self.assertIn("Predicted class: ", browser.value(PREDICTION))
                self.assertGreater(len(found), 9)
                self.assertLessEqual(len(found) * math.prod(shape) * 4 * 4 / 3, MOST_SAMPLE_BYTES)
                for index, outputs in found:
                    self.assertLessEqual(np.abs(outputs - expected[index]).max(), TOLERANCE)

    def test_drawing(self):
        """A vertical line is a 1, wherever it is drawn."""
        data = {"data.directory": testing.MNIST} if testing.MNIST else {"data.source": "synthetic"}
        run = self.train({**data, "model.layers": "dense 16 relu, dense 16 relu, dense 10",
                          "model.cost": "cross_entropy", "training.learning_rate": 0.02,
                          "training.optimizer": "momentum", "training.epochs": 4,
                          "data.train_samples": 12000, "data.test_samples": 1000})
        with self.open(self.page_of(run)) as browser:
            browser.value("document.getElementById('network-field').scrollIntoView({block: 'center'})")
            area = browser.value("JSON.parse(JSON.stringify(document.getElementById('network-field')"
                                 ".getBoundingClientRect()))")
            for across in (0.2, 0.5):
                browser.value("document.getElementById('network-clear').click()")
                before = browser.value(PREDICTION)
                x, y = area["x"] + across * area["width"], area["y"]
                for kind, down in (("mousePressed", 0.2), *(("mouseMoved", 0.2 + 0.06 * i) for i in range(11)),
                                   ("mouseReleased", 0.8)):
                    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y + down * area["height"], button="left",
                                 buttons=1, clickCount=1)
                browser.wait_for(f"{PREDICTION} != {json.dumps(before)}")
                self.assertIn("Predicted class: 1 ", browser.value(PREDICTION))

            browser.value("document.getElementById('network-clear').click()")
            before = browser.value(PREDICTION)
            for kind, down in (("touchStart", 0.2), *(("touchMove", 0.2 + 0.06 * i) for i in range(11)),
                               ("touchEnd", None)):
                points = [{"x": area["x"] + 0.4 * area["width"], "y": y + down * area["height"]}] if down else []
                browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
            browser.wait_for(f"{PREDICTION} != {json.dumps(before)}")
            self.assertIn("Predicted class: 1 ", browser.value(PREDICTION))

            self.check_work(browser, x, y + area["height"] / 2)
            self.check_centring(browser)

    def check_work(self, browser, x, y):
        """The network is computed only if its sample has changed, and once for each frame. (x, y) is in the field."""
        browser.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", buttons=1, clickCount=1)
        self.assertEqual(browser.value(COUNT % "network-field"), {"forward": 1, "sample": 1})
        explanation = browser.value("document.getElementById('network-explanation').textContent")
        self.assertEqual(browser.value(COUNT % "network-canvas"), {"forward": 0, "sample": 0})
        self.assertNotEqual(browser.value("document.getElementById('network-explanation').textContent"), explanation)

    def check_centring(self, browser):
        """A slanted stroke in a corner fills 20 rows, and its centre of mass is in the middle."""
        pixels = np.array(browser.value("""(() => {
            const drawing = new Drawing(document.createElement("canvas"),
                                        [[[0.05, 0.1], [0.1, 0.4]], [[0.05, 0.1], [0.2, 0.1]]]);
            return Array.from(drawing.sample(28, 28));
        })()""")).reshape(28, 28)
        self.assertAlmostEqual(float(pixels.max()), 1, delta=0.01)
        rows = np.flatnonzero(pixels.max(1) > 0.1)
        self.assertAlmostEqual(rows[-1] - rows[0] + 1, 20, delta=1)
        for axis in (0, 1):
            centre = (pixels.sum(1 - axis) * (np.arange(28) + 0.5)).sum() / pixels.sum()
            self.assertAlmostEqual(centre, 14, delta=0.15)

    def test_film_and_keyboard(self):
        run = self.train({**DENSE, "training.epochs": 4, "output.keep_checkpoints": 0})
        with self.open(self.page_of(run)) as browser:
            def press(key):
                for kind in ("keyDown", "keyUp"):
                    browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                                 windowsVirtualKeyCode={"Home": 36, "ArrowRight": 39, "ArrowLeft": 37}[key])

            path = browser.value(PATH)
            states = [browser.value(STATE)]
            browser.value("document.getElementById('film').focus()")
            for key in ("Home", "ArrowRight"):
                press(key)
                states.append(browser.value(STATE))
            for name in states[0]:
                with self.subTest(name):
                    self.assertEqual(len({str(state[name]) for state in states}), len(states))
            steps = [int(checkpoint.stem[5:]) for checkpoint in run.checkpoints()]
            self.assertEqual([int(state["step"].replace(",", "")) for state in states], [steps[-1], *steps[:2]])
            for state in states:  # the marker is on a point of the path
                self.assertLess(np.abs(np.array(path) - state["marker"]).max(1).min(), 0.5)

            browser.value("document.getElementById('network-canvas').focus()")
            press("ArrowLeft")
            self.assertIn("of layer 1 (dense 16 sigmoid)", browser.value(STATE)["outputs"])

            browser.value("document.getElementById('network-canvas').scrollIntoView()")
            x, y = browser.value("(area => [area.x, area.y])(document.getElementById('network-canvas')"
                                 ".getBoundingClientRect())")
            browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 82, y=y + 214)  # in the picture
            self.assertIn("Input: row 14, column 14", browser.value(STATE)["outputs"])

            self.check_live_changes(browser, steps)
            for column in browser.value(FIT):
                self.assertLessEqual(column["height"], column["limit"])
                self.assertTrue(column["areFound"], column)

    def check_live_changes(self, browser, steps):
        """A live page gets other data, and shows them. The film is at the second step, and an input is chosen."""
        def change(what):
            browser.value("""(() => {
                const script = document.getElementById("network-data"), data = JSON.parse(script.textContent);
                %s
                script.textContent = JSON.stringify(data);
                document.dispatchEvent(new Event("pagechange"));
            })()""" % what)
            state = browser.value(STATE)
            self.assertEqual(browser.value("document.querySelectorAll('#film-charts svg').length"), 2)
            return int(state["step"].replace(",", "")), state["outputs"]

        step, explanation = change("data.checkpoints.pop();")
        self.assertEqual(step, steps[1])
        self.assertIn("Input: row 14, column 14", explanation)
        browser.value("""(film => {
            film.value = film.max;
            film.dispatchEvent(new Event("input"));
        })(document.getElementById("film"))""")
        self.assertEqual(change("data.checkpoints.shift();")[0], steps[-2])  # it stays at the end
        before = browser.value(STATE)
        change("document.getElementById('chart-cost').append(document.createElement('new'));")
        self.assertEqual(browser.value("document.querySelectorAll('#film-charts new').length"), 1)
        self.assertEqual(browser.value(STATE), before)
        for is_drawable in ("false", "true"):
            change(f"data.drawable = {is_drawable};")
        _, explanation = change("data.shape = [14, 56];")
        self.assertIn("of layer 2", explanation)

    def test_large_networks(self):
        without_evaluation = "--eval", self.folder / "none"  # the surface would take long
        run = self.train({**CROSS_ENTROPY, "model.layers": "dense 900 relu, dense 10", "training.epochs": 1,
                          "output.keep_checkpoints": 0, "output.checkpoint_every": "4 steps"})
        text = self.page_of(run, *without_evaluation).read_text(encoding="utf-8")
        self.assertRegex(Page(text).text, r"one of\s+2 checkpoints")
        found = [int(step) for step in re.findall(r'"step":(\d+),"weights"', text)]
        steps = [int(checkpoint.stem[5:]) for checkpoint in run.checkpoints()]
        self.assertGreater(len(steps), 2)
        self.assertEqual(found, [steps[0], steps[-1]])

        run = self.train({"model.layers": "dense 2000, dense 10", "training.epochs": 0}, output="large")
        page = Page(self.page_of(run, *without_evaluation).read_text(encoding="utf-8"))
        self.assertIn("1,590,010 parameters", page.by_id["network-problem"])
        self.assertNotIn("network-data", page.by_id)

        run = self.train({"model.layers": "dense 10", "training.epochs": 0}, output="big")
        with h5py.File(run.checkpoints()[-1], "r+") as file:
            group = file["model/01_dense"]
            group["weight"][3, 300] = 7e4
            file.attrs["fingerprint"] = xxhash.xxh3_64(group["weight"][()].tobytes() + group["bias"][()].tobytes()
                                                       ).hexdigest()
        page = Page(self.page_of(run, *without_evaluation).read_text(encoding="utf-8"))
        self.assertIn("too large for float16", page.by_id["network-problem"])
        self.assertIn("weights", page.by_id)


if __name__ == "__main__":
    testing.main()
