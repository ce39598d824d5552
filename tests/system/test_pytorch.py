"""Compares convolutional and recurrent networks with PyTorch in double precision, from the same weights."""

import sys
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import bfloat16_network  # noqa: E402
import dtrain_testing as testing  # noqa: E402

try:
    import pytorch_network
    import torch
except ImportError:
    torch = None

STEPS = 12
TOLERANCE = 1e-4
SAMPLES = 120

NETWORKS = {
    "LeNet-5": "conv 6x5x5 pad 2 relu, maxpool 2, conv 16x5x5 relu, maxpool 2, dense 120 relu, dense 84 relu, dense 10",
    "strides and means": "conv 5x5x5 pad 1 stride 2 tanh, avgpool 2, conv 7x3x3 pad 2 stride 3 tanh, dense 10",
    "windows that leave an edge": "maxpool 3, conv 9x4x4 sigmoid, avgpool 4, dense 10",
    "LSTM over the rows": "lstm 21, dense 10",
    "batch normalisation": "conv 5x3x3 stride 2, batchnorm relu, maxpool 2, conv 9x3x3, batchnorm, dense 20, "
                           "batchnorm tanh, dense 10",
}
SHARDS = {"batch normalisation": 1}  # statistics are those of a shard
CLIP_NORMS = {"LSTM over the rows": 0.05}


def with_weights(model, checkpoint):
    """The model's tensors in dtrain's order, with the weights of the checkpoint."""
    tensors = parameters_of(model)
    with torch.no_grad():
        for tensor, weights in zip(tensors, weights_in(checkpoint).values()):
            tensor.copy_(torch.from_numpy(weights))
    return tensors


def parameters_of(model):
    """PyTorch's tensors in dtrain's order. PyTorch has two biases per gate; one of them stays zero."""
    tensors = []
    for module in model.modules():
        if isinstance(module, torch.nn.LSTM):
            module.bias_hh_l0.requires_grad_(False).zero_()
            tensors += [module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0]
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear, torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            tensors += [module.weight, module.bias]
    return tensors


def weights_in(checkpoint):
    """Layer by layer, in the order of parameters_of within a layer."""
    order = {"weight": 0, "weight_ih": 0, "weight_hh": 1, "bias": 2}
    names = [name for name in checkpoint.datasets if name.startswith("/model/") and "/running_" not in name]
    names.sort(key=lambda name: (name.split("/")[2], order[name.split("/")[3]]))
    return {name: checkpoint.datasets[name] for name in names}


@unittest.skipUnless(torch, "PyTorch is not installed (Debian: python3-torch)")
class PyTorchTest(testing.DtrainTestCase):
    def test_networks_train_alike(self):
        images = torch.from_numpy(self.arrays["train_images"][:SAMPLES].astype(np.float64) / 255).unsqueeze(1)
        labels = torch.from_numpy(self.arrays["train_labels"][:SAMPLES].astype(np.int64))
        for number, (name, layers) in enumerate(NETWORKS.items(), start=1):
            shards = SHARDS.get(name, 8)
            ranks = min(number, shards)
            with self.case(name, ranks=ranks):
                settings = {"model.layers": layers, "model.cost": "cross_entropy", "data.train_samples": SAMPLES,
                            "training.batch_size": "all", "training.learning_rate": 0.1, "training.epochs": STEPS,
                            "training.clip_norm": CLIP_NORMS.get(name, 0), "parallel.logical_shards": shards}
                start = self.train(settings, "--training.epochs=0", output=f"start-{ranks}").last_checkpoint()
                trained = self.train(settings, ranks=ranks, output=f"end-{ranks}")

                model = pytorch_network.build(layers).double()
                tensors = with_weights(model, start)
                optimizer = torch.optim.SGD(tensors, lr=settings["training.learning_rate"])
                costs = []
                for _ in range(STEPS):
                    optimizer.zero_grad()
                    cost = torch.nn.functional.cross_entropy(model(images), labels)
                    cost.backward()
                    if name in CLIP_NORMS:
                        length = torch.nn.utils.clip_grad_norm_(tensors, CLIP_NORMS[name])
                        self.assertGreater(length, 1.2 * CLIP_NORMS[name], "nothing is clipped")
                    optimizer.step()
                    costs.append(cost.item())
                self.assertLess(costs[-1], 0.999 * costs[0])
                self.assert_close(trained.log().datasets["/steps/cost"], costs, TOLERANCE, "/steps/cost")
                for (tensor_name, actual), expected in zip(weights_in(trained.last_checkpoint()).items(), tensors):
                    if not np.max(np.abs(expected.detach().numpy())) > 1e-12:  # a bias before a batchnorm stays 0
                        self.assertLess(np.max(np.abs(actual)), 1e-6)
                        continue
                    self.assert_close(actual, expected.detach().numpy(), TOLERANCE, tensor_name)
                self.check_statistics(model.eval(), trained)

    def check_statistics(self, model, trained):
        """Running means and variances, and an evaluation with them."""
        statistics = [values for name, values in sorted(trained.last_checkpoint().datasets.items())
                      if "/running_" in name]
        expected = [buffer for name, buffer in model.named_buffers() if "running_" in name]
        self.assertEqual(len(statistics), len(expected))
        for actual, buffer in zip(statistics, expected):
            self.assert_close(actual, buffer.numpy(), TOLERANCE, "a running statistic")
        if expected:
            file = self.folder / "evaluation.h5"
            testing.run("dtrain-eval", trained.folder, "--record", file, "--surface", "0", cwd=self.folder)
            test_images = torch.from_numpy(self.arrays["test_images"].astype(np.float64) / 255).unsqueeze(1)
            outputs = torch.softmax(model(test_images), 1).detach().numpy()
            self.assert_close(testing.read_h5(file).datasets["/samples/output"], outputs, TOLERANCE, "outputs")

    def test_bfloat16_gradients(self):
        """They are as close to gradients in double precision as those of PyTorch's autocast, which also rounds the
        outputs of layers and all of a layer's gradients."""
        samples = 300
        images = torch.from_numpy(self.arrays["train_images"][:samples].astype(np.float64) / 255).unsqueeze(1)
        labels = torch.from_numpy(self.arrays["train_labels"][:samples].astype(np.int64))
        for name, layers in bfloat16_network.NETWORKS.items():
            with self.case(name):
                start, _, found = self.first_step({
                    "model.layers": layers, "model.cost": "cross_entropy", "data.train_samples": samples,
                    "training.precision": "bfloat16"})

                def gradients(model, images, autocast=False):
                    tensors = with_weights(model, start)
                    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                        outputs = model(images)
                    torch.nn.functional.cross_entropy(outputs.double(), labels).backward()
                    return [tensor.grad.double().numpy() for tensor in tensors]

                exact = gradients(pytorch_network.build(layers).double(), images)
                autocast = gradients(pytorch_network.build(layers), images.float(), autocast=True)
                for path, theirs, expected in zip(weights_in(start), autocast, exact):
                    own, other = (np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
                                  for gradient in (found[path], theirs))
                    print(f"{name}, {path}: dtrain {own:.1e}, autocast {other:.1e}", flush=True)
                    self.assertLess(own, 1.5 * other, path)
                    self.assertLess(other, 2**-6, path)


if __name__ == "__main__":
    testing.main()
