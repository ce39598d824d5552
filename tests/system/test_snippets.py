"""The Python that README.md shows does what it says."""

import contextlib
import importlib.util
import io
import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402


def snippet(word):
    """The one snippet of README.md that contains `word`."""
    text = (testing.SOURCE / "README.md").read_text(encoding="utf-8")
    found = [code for code in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if word in code]
    assert len(found) == 1, f"{len(found)} snippets have {word}"
    return found[0]


class SnippetTest(testing.DtrainTestCase):
    def run_snippet(self, code):
        """The names it leaves behind, and what it prints; run where runs/mnist-sigmoid is."""
        names, printed = {}, io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), names)
        return names, printed.getvalue()

    def train_sigmoid_network(self):
        return self.train({"output.directory": self.folder / "runs/mnist-sigmoid", "training.batch_size": 32})

    def need(self, module):
        if importlib.util.find_spec(module) is None:
            self.skipTest(f"there is no python3-{module}")

    def test_data_set(self):
        names, _ = self.run_snippet(snippet("write_idx"))
        for array in (np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.float32([[1.5, -2]])):
            names["write_idx"](self.folder / "file", array)
            self.assertEqual((self.folder / "file").read_bytes(), testing.idx_bytes(array))

    def test_log(self):
        run = self.train_sigmoid_network()
        _, printed = self.run_snippet(snippet("log.attrs["))
        log = run.log()
        self.assertEqual(printed, f"{log.datasets['/epochs/test_accuracy']} {log.attributes['dataset']}\n")

    def test_pandas(self):
        self.need("pandas")
        run = self.train_sigmoid_network()
        names, _ = self.run_snippet(snippet("import pandas"))
        table, log = names["epochs"], run.log().datasets
        self.assertEqual(set(table.columns), {name[8:] for name in log if name.startswith("/epochs/")} - {"epoch"})
        for name in table.columns:
            np.testing.assert_array_equal(table[name], log[f"/epochs/{name}"])
        self.assertEqual(len(names["smooth"]), len(log["/steps/cost"]))

    def test_pytorch(self):
        self.need("torch")
        run = self.train_sigmoid_network()
        steps = run.last_checkpoint().attributes["step"]
        code = re.sub(r"step-\d{8}", f"step-{steps:08d}", snippet("import torch"))
        names, _ = self.run_snippet(code)
        torch = names["torch"]
        images = torch.tensor(self.arrays["test_images"].reshape(-1, 784) / np.float32(255))
        said = names["network"](images).argmax(1).numpy()
        self.assertAlmostEqual(np.mean(said == self.arrays["test_labels"]),
                               run.log().datasets["/epochs/test_accuracy"][-1], delta=1e-9)


if __name__ == "__main__":
    testing.main()
