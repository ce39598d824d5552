"""Exported networks compute what dtrain computes: in NumPy, OpenCV and PyTorch."""

import importlib
import json
import os
import shutil
import signal
import sys
import unittest
import unittest.mock
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402


def module(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


onnx, cv2, torch = map(module, ("onnx", "cv2", "torch"))
if onnx:
    import onnx_in_numpy
if torch:
    import pytorch_network

TOLERANCE = 1e-5  # absolute; outputs are at most 1
SAMPLES = 100
SIGMOID = {"model.layers": "dense 16 sigmoid, dense 16 sigmoid, dense 10 sigmoid", "model.cost": "quadratic"}
CROSS_ENTROPY = {"model.cost": "cross_entropy", "training.learning_rate": 0.02}
# Settings, and the shape of a sample for the exported network.
NETWORKS = {
    "dense": (SIGMOID, (28, 28)),
    "LeNet-5": ({**CROSS_ENTROPY, "model.layers": "conv 6x5x5 pad 2 relu, maxpool 2, conv 16x5x5 relu, maxpool 2, "
                                                  "dense 120 relu, dense 84 tanh, dense 10"}, (1, 28, 28)),
    "strides, means, edges, dropout": (
        {**CROSS_ENTROPY, "model.layers": "dropout 0.1, conv 5x5x5 pad 1 stride 2 tanh, maxpool 2, "
                                          "conv 7x3x3 pad 2 stride 1 relu, avgpool 3, dropout 0.2, dense 10"},
        (1, 28, 28)),
    "batch normalisation": (
        {**CROSS_ENTROPY, "model.layers": "conv 5x5x5 stride 2, batchnorm relu, maxpool 2, dense 20, batchnorm tanh, "
                                          "dense 10"}, (1, 28, 28)),
    "LSTM": ({**CROSS_ENTROPY, "model.layers": "dropout 0.1, lstm 21, dense 10", "training.learning_rate": 0.5},
             (28, 28)),
    "maps as outputs": ({"model.layers": "avgpool 2, conv 10x14x14 sigmoid", "model.cost": "quadratic",
                         "training.learning_rate": 0.05}, (1, 28, 28)),
}


def program_module(name):
    """A module of dtrain-export."""
    with unittest.mock.patch("sys.path", [str(testing.SOURCE / "src" / folder) for folder in ("export", "report")] +
                             sys.path):
        return importlib.import_module(name)


def read_safetensors(path):
    """{name: array} and the metadata. The tensors fill the file without gaps."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    metadata, tensors, end = header.pop("__metadata__"), {}, 0
    for name, entry in header.items():
        assert entry["dtype"] == "F32" and entry["data_offsets"][0] == end, entry
        end = entry["data_offsets"][1]
        tensors[name] = np.frombuffer(data[begin + entry["data_offsets"][0]:begin + end], "<f4").reshape(entry["shape"])
    assert begin % 8 == 0 and begin + end == len(data)
    return tensors, metadata


class ExportTestCase(testing.DtrainTestCase):
    def export(self, run, name, *options):
        path = self.folder / name
        result = testing.run("dtrain-export", run, "-o", path, *options, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertEqual(result.messages(), [])
        self.assertRegex(result.stdout, rf"\A{path}: [\d,]+ parameters of \S+\.h5, [\d,]+ kB\n\Z")
        return path

    def outputs_of(self, run):
        """What dtrain computes for the first samples of the test set."""
        file = self.folder / "record.h5"
        result = testing.run("dtrain-eval", run.folder, "--record", file, "--surface", 0, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        return testing.read_h5(file).datasets["/samples/output"][:SAMPLES]

    def samples(self, shape):
        return (self.arrays["test_images"][:SAMPLES].astype(np.float32) / 255).reshape(-1, *shape)

    def assert_outputs(self, actual, expected, where):
        difference = np.abs(np.asarray(actual, np.float64) - expected).max()
        print(f"{where}: maximum difference {difference:.1e}", flush=True)
        self.assertEqual(actual.shape, expected.shape)
        self.assertLessEqual(difference, TOLERANCE, where)


@unittest.skipUnless(onnx, "the package onnx is not installed (Debian: python3-onnx)")
class OnnxTest(ExportTestCase):
    def with_each_network(self, compute, where):
        """compute(path, samples) gives the same outputs as dtrain."""
        for name, (settings, shape) in NETWORKS.items():
            with self.case(name):
                run = self.train(settings, ranks=None)
                expected = self.outputs_of(run)
                self.assertGreater(np.ptp(expected, axis=0).max(), 100 * TOLERANCE, "the outputs are all the same")
                path = self.export(run.folder, "model.onnx")
                self.assert_outputs(compute(path, self.samples(shape)), expected, f"{name} in {where}")

    def test_in_numpy(self):
        self.with_each_network(onnx_in_numpy.run, "NumPy")

    @unittest.skipUnless(cv2, "OpenCV is not installed (Debian: python3-opencv)")
    def test_in_opencv(self):
        class Mat(np.ndarray):
            """Otherwise OpenCV takes the last of three dimensions for channels."""
            wrap_channels = False

        cv2._registerMatType(Mat)

        def compute(path, samples):
            network = cv2.dnn.readNetFromONNX(str(path))
            # OpenCV 4.6 computes an LSTM for one sample only.
            batches = np.split(samples, len(samples)) if "LSTM" in str(onnx.load(str(path)).graph) else [samples]
            outputs = []
            for batch in batches:
                network.setInput(batch.view(Mat))
                outputs.append(network.forward().copy())
            return np.concatenate(outputs)

        self.with_each_network(compute, "OpenCV")

    def test_file_is_valid_and_says_what_it_contains(self):
        for name, (settings, shape) in NETWORKS.items():
            with self.case(name):
                run = self.train(settings, "--training.epochs=1", ranks=None)
                checkpoint = run.last_checkpoint()
                model = onnx.load(str(self.export(run.folder, "model.onnx")))
                onnx.checker.check_model(model, full_check=True)
                facts = {entry.key: entry.value for entry in model.metadata_props}
                for key in ("dtrain_version", "fingerprint", "dataset", "config"):
                    self.assertEqual(facts[key], checkpoint.attributes[key])
                self.assertEqual((facts["step"], facts["classes"]), (str(checkpoint.attributes["step"]), "10"))
                self.assertEqual(model.producer_name, "dtrain")
                for value, expected in ((model.graph.input, ["batch", *shape]), (model.graph.output, ["batch", 10])):
                    dimensions = value[0].type.tensor_type.shape.dim
                    self.assertEqual([entry.dim_param or entry.dim_value for entry in dimensions], expected)
                texts = [text.split()[0] for text in settings["model.layers"].split(", ")]
                labels = [f"{number:02}_{kind}" for number, kind in enumerate(texts, 1) if kind != "dropout"]
                found = [node.name.partition("/")[0] for node in model.graph.node]
                self.assertEqual(list(dict.fromkeys(found)), labels + ["output"] * (found[-1] == "output"))
                self.assertEqual(found[-1] == "output", name == "maps as outputs" or "Softmax" in str(model.graph))
                self.assertEqual("Softmax" in str(model.graph), settings["model.cost"] == "cross_entropy")

    def test_network_that_is_too_large(self):
        """protobuf limits a file to 2 GiB."""
        encoder = program_module("onnx_file")
        with self.assertRaisesRegex(encoder.TooLarge, "at most .* parameters"):
            encoder.encode(unittest.mock.Mock(parameters=1 << 29), "1")


class SafetensorsTest(ExportTestCase):
    def test_tensors_and_metadata(self):
        names = {"dense": {}, "conv": {}, "lstm": {"weight_ih": "weight_ih_l0", "weight_hh": "weight_hh_l0",
                                                   "bias": "bias_ih_l0"}}
        for name, (settings, _) in NETWORKS.items():
            with self.case(name):
                run = self.train(settings, "--training.epochs=1", ranks=None)
                checkpoint = run.last_checkpoint()
                tensors, metadata = read_safetensors(self.export(run.folder, "weights.safetensors"))
                for key in ("dtrain_version", "fingerprint", "dataset", "config"):
                    self.assertEqual(metadata[key], checkpoint.attributes[key])
                for path, values in checkpoint.datasets.items():
                    if path.startswith("/model/"):
                        _, _, label, tensor = path.split("/")
                        stored = tensors.pop(f"{label}.{names.get(label[3:], {}).get(tensor, tensor)}")
                        self.assert_close(stored, values, 0, path)
                for rest, values in tensors.items():
                    self.assertRegex(rest, r"^\d\d_lstm\.bias_hh_l0$")
                    self.assertFalse(values.any())

    @unittest.skipUnless(torch, "PyTorch is not installed (Debian: python3-torch)")
    def test_in_pytorch(self):
        for name, (settings, _) in NETWORKS.items():
            with self.case(name):
                run = self.train(settings, ranks=None)
                tensors, metadata = read_safetensors(self.export(run.folder, "weights.safetensors"))
                network = pytorch_network.build(metadata["layers"]).eval()
                modules = [part for part in network.modules()
                           if isinstance(part, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.LSTM,
                                               torch.nn.BatchNorm1d, torch.nn.BatchNorm2d))]
                labels = list(dict.fromkeys(key.partition(".")[0] for key in tensors))
                self.assertEqual(len(labels), len(modules))
                for label, part in zip(labels, modules):
                    missing, _ = part.load_state_dict({key.partition(".")[2]: torch.tensor(values)
                                                       for key, values in tensors.items() if key.startswith(label)},
                                                      strict=False)
                    self.assertLessEqual(set(missing), {"num_batches_tracked"})  # not used with a fixed momentum
                with torch.no_grad():
                    outputs = network(torch.from_numpy(self.samples((1, 28, 28)))).flatten(1)
                    if metadata["cost"] == "cross_entropy":
                        outputs = torch.softmax(outputs, dim=1)
                self.assert_outputs(outputs.numpy(), self.outputs_of(run), f"{name} in PyTorch")


class ChoiceTest(ExportTestCase):
    """Which checkpoint is exported, and to which file."""

    def fingerprint(self, path):
        return read_safetensors(path)[1]["fingerprint"]

    def test_newest_given_or_best_checkpoint(self):
        run = self.train(SIGMOID, "--training.epochs=3", ranks=None)
        shutil.copy(run.checkpoints()[0], run.folder / "checkpoints/best.h5")
        fingerprints = [testing.read_h5(path).attributes["fingerprint"] for path in run.checkpoints()]
        self.assertEqual(len(set(fingerprints)), 3)
        for expected, words in ((fingerprints[2], (run.folder,)), (fingerprints[2], (run.folder / "checkpoints",)),
                                (fingerprints[1], (run.checkpoints()[1],)), (fingerprints[0], (run.folder, "--best")),
                                (fingerprints[0], (run.folder / "checkpoints", "--best"))):
            path = self.export(words[0], "weights.safetensors", *words[1:])
            self.assertEqual(self.fingerprint(path), expected, words)
        (run.folder / "checkpoints/best.h5").unlink()
        for path, words in ((run.folder, ("no best.h5", "keep_best")),
                            (run.checkpoints()[0], ("--best needs the folder of a run",)),
                            (run.folder / "missing", ("no such file or folder",))):
            self.assert_refused("dtrain-export", path, "--best", "-o", "new.safetensors",
                                code=testing.EXIT_BAD_CHECKPOINT, words=(path, *words))

    def test_tells_that_dtrain_rounds(self):
        run = self.train({"training.precision": "bfloat16", "training.epochs": 1}, ranks=None)
        result = testing.run("dtrain-export", run.folder, "-o", "weights.safetensors", cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertIn("\ndtrain computes this network in bfloat16.", result.stdout)

    def test_older_checkpoint_if_the_newest_is_damaged(self):
        run = self.train(SIGMOID, ranks=None)
        damage(run.checkpoints()[1])
        self.assert_refused("dtrain-export", run.checkpoints()[1], "-o", "new.safetensors",
                            code=testing.EXIT_BAD_CHECKPOINT, words=(run.checkpoints()[1], "damaged"))
        path = self.folder / "weights.safetensors"
        result = testing.run("dtrain-export", run.folder, "-o", path, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        warning, = result.messages()
        self.assertRegex(warning, rf"^dtrain-export: warning: {run.checkpoints()[1]}: .*; trying an older checkpoint$")
        self.assertEqual(self.fingerprint(path), testing.read_h5(run.checkpoints()[0]).attributes["fingerprint"])
        damage(run.checkpoints()[0])
        self.assert_refused("dtrain-export", run.folder, "-o", "new.safetensors", max_warnings=2,
                            code=testing.EXIT_BAD_CHECKPOINT, words=(run.folder, "no valid checkpoint"))

    @unittest.skipUnless(onnx, "the package onnx is not installed (Debian: python3-onnx)")
    def test_replaces_only_files_of_its_own_kind(self):
        run = self.train(SIGMOID, "--training.epochs=1", ranks=None)
        names = ("model.onnx", "weights.safetensors")
        contents = [self.export(run.folder, name).read_bytes() for name in names]
        for name, before in zip(names, contents):
            (self.folder / name).write_bytes(before + b"more")
            self.assertEqual(self.export(run.folder, name).read_bytes(), before)
        foreign_onnx = onnx.load(str(self.folder / names[0]))
        foreign_onnx.producer_name = "pytorch"
        text = b'{"__metadata__":{"format":"pt"}}'
        for name, foreign in ((names[0], contents[1]), (names[1], contents[0]), (names[0], b"text"), (names[1], b""),
                              (names[0], foreign_onnx.SerializeToString()),
                              (names[1], len(text).to_bytes(8, "little") + text)):
            (self.folder / name).write_bytes(foreign)
            self.assert_refused("dtrain-export", run.folder, "-o", name, code=testing.EXIT_BAD_OUTPUT,
                                words=(name, "replaces only its own files"))

    def test_places_that_cannot_be_written(self):
        run = self.train(SIGMOID, "--training.epochs=1", ranks=None)
        (self.folder / "folder.safetensors").mkdir()
        for name, words in (("missing/x.safetensors", "No such file"), ("folder.safetensors", "is not a safetensors"),
                            ("/proc/x.safetensors", "/proc/x"), (f"{300 * 'x'}.safetensors", "name too long")):
            self.assert_refused("dtrain-export", run.folder, "-o", name, code=testing.EXIT_BAD_OUTPUT, words=(words,))

    def test_names_of_no_format(self):
        for name in ("model.pt", "model", "model.ONNX", ".onnx"):
            self.assert_refused("dtrain-export", "run", "-o", name, code=testing.EXIT_BAD_CONFIG,
                                words=(name, ".onnx or .safetensors"))

    def test_missing_package(self):
        """A module that pip installed comes before Debian's. It cannot be loaded."""
        for name in ("onnx", "h5py", "xxhash"):
            with self.case(name):
                site = self.folder / ".local/lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
                site.mkdir(parents=True)
                (site / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}')\n")
                with unittest.mock.patch.dict("os.environ", HOME=str(self.folder)):
                    result = testing.run("dtrain-export", "run", "-o", "model.onnx", cwd=self.folder)
                self.assert_one_message(result, testing.EXIT_BAD_CONFIG, f"No module named {name}",
                                        "apt-get install python3-h5py python3-xxhash python3-onnx", program="dtrain-export")


def damage(path):
    """Changes one byte of a weight."""
    with h5py.File(path) as file:
        weight = file["model/01_dense/weight"]
        place = weight.id.get_chunk_info(0).byte_offset + file.userblock_size
    data = bytearray(path.read_bytes())
    data[place + 5] ^= 1
    path.write_bytes(data)


class BadInputTest(ExportTestCase):
    def refused(self, run, *words):
        self.assert_refused("dtrain-export", run, "-o", "new.safetensors", code=testing.EXIT_BAD_CHECKPOINT,
                            words=words)

    def test_no_checkpoint(self):
        run = self.train(SIGMOID, "--training.epochs=1", ranks=None)
        self.outputs_of(run)
        (self.folder / "text.h5").write_text("text")
        (self.folder / "empty").mkdir()
        self.refused("missing", "missing: no such file or folder")
        self.refused("empty", "empty: no valid checkpoint")
        self.refused("text.h5", "text.h5: not a readable HDF5 file")
        self.refused(run.folder / "log.h5", "log.h5: is a cost log; expected a checkpoint")
        self.refused("record.h5", "record.h5: is a file of kind evaluation; expected a checkpoint")
        self.refused(300 * "x", "name too long")

    def test_files_that_crash_the_library(self):
        """The file is good. The function that reads it does what HDF5 does with some damaged files."""
        hdf5 = program_module("hdf5")
        checkpoint = self.train(SIGMOID, "--training.epochs=0", ranks=None).checkpoints()[0]
        for read in (lambda _: os.kill(os.getpid(), signal.SIGSEGV), lambda _: max(iter(int, 1))):
            with unittest.mock.patch.object(hdf5, "MAX_CPU_SECONDS", 1), \
                    self.assertRaisesRegex(hdf5.Unreadable, f"{checkpoint}: is damaged .*HDF5"):
                hdf5.reading_apart(checkpoint, read)
        self.assertEqual(hdf5.reading_apart(checkpoint, lambda file: list(file["model"])),
                         ["01_dense", "02_dense", "03_dense"])

    def test_later_versions(self):
        run = self.train(SIGMOID, ranks=None)
        checkpoint = run.checkpoints()[-1]
        good = checkpoint.read_bytes()
        config = run.last_checkpoint().attributes["config"]
        layers = SIGMOID["model.layers"]
        for name, value, words in (
                ("format_version", 5, "format_version is 5"),
                ("config", config.replace(layers, "dense 16 sigmoid, mirror 3, dense 10"), "layer 2, `mirror 3`"),
                ("config", config.replace(layers, "dense 16 swish, dense 10"), "layer 1, `dense 16 swish`"),
                ("config", config.replace(layers, "dense 16 relu twice, dense 10"), "layer 1, `dense 16 relu twice`"),
                ("config", config.replace(layers, "conv 3x40x40, dense 10"), "layer 1, `conv 3x40x40`"),
                ("config", config.replace(layers, "conv 3x4x5, dense 10"), "layer 1, `conv 3x4x5`"),
                ("config", config.replace(layers, "conv 3x4x4 stride 0, dense 10"), "layer 1, `conv 3x4x4 stride 0`"),
                ("config", config.replace(layers, "dense 16, lstm 3"), "layer 2, `lstm 3`"),
                ("config", config.replace(layers, ""), "layer 1, ``"),
                ("config", config.replace("cost = quadratic", "cost = hinge"), "model.cost = hinge"),
                ("config", config.replace("cost = quadratic", "cost = quadratic\nmirror = 1"), "model.mirror")):
            with self.subTest(words):
                checkpoint.write_bytes(good)
                with h5py.File(checkpoint, "a") as file:
                    self.assertNotEqual(file.attrs[name], value)
                    file.attrs[name] = value
                self.refused(run.folder, str(checkpoint), words)  # an older checkpoint is no substitute

    def test_tensors_that_do_not_fit_the_config(self):
        checkpoint = self.train(SIGMOID, "--training.epochs=1", ranks=None).checkpoints()[-1]
        good = checkpoint.read_bytes()
        name = "/model/02_dense/bias"
        for words, options in {"lacks": None, "has shape (17,)": {"data": np.zeros(17, "f4")},
                               "float64": {"data": np.zeros(16)}, "int32": {"data": np.zeros(16, "i4")},
                               "(16, 1)": {"data": np.zeros((16, 1), "f4")},
                               "fingerprint": {"shape": (16,), "dtype": "f4", "chunks": (4,)}}.items():
            with self.subTest(words):
                checkpoint.write_bytes(good)
                with h5py.File(checkpoint, "a") as file:
                    del file[name]
                    if options:
                        file.create_dataset(name, **options)
                self.refused(checkpoint, checkpoint, words, name if words != "fingerprint" else "damaged")


if __name__ == "__main__":
    testing.main()
