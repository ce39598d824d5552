"""Gradients in NumPy double precision, whose products round both factors to bfloat16 where dtrain does. So they differ
from dtrain's by the rounding of float sums and activations only.

Shapes: N samples, I inputs, O outputs, T time steps, H hidden units, C channels, M output channels, K the window.
"""

import numpy as np
from reference_network import ACTIVATIONS, COSTS, inputs_of, one_hot, sigmoid

# Layers of every kind that rounds, with a last layer that is too small to round.
NETWORKS = {
    "dense": "dense 48 tanh, dense 33 sigmoid, dense 10",
    "convolutions": "conv 6x5x5 stride 2 tanh, conv 7x3x3 pad 1 stride 2 tanh, dense 40 tanh, dense 10",
    "LSTM": "lstm 21, dense 10",
}


def to_bfloat16(values):
    """The nearest numbers with 8 significant bits, ties to even. None of the values is denormal."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


def rounded_product(a, b):
    return to_bfloat16(a) @ to_bfloat16(b)


class Dense:
    def __init__(self, words, weight, bias):
        self.weight, self.bias, self.name = weight, bias, words[1] if len(words) > 1 else "linear"
        self.rounds = min(weight.shape) >= 32

    def forward(self, x, product):
        self.shape, self.x = x.shape, x.reshape(len(x), -1)
        self.y = ACTIVATIONS[self.name][0](product(self.x, self.weight.T) + self.bias)
        return self.y

    def backward(self, dy, product):
        """Returns the derivative with respect to x, and to each parameter."""
        dz = dy * ACTIVATIONS[self.name][1](self.y)
        return product(dz, self.weight).reshape(self.shape), [product(dz.T, self.x), dz.sum(axis=0)]


class Convolution:
    """A row of `windows`, N H W x C K K, has what one output pixel sees."""

    def __init__(self, words, weight, bias):
        self.weight, self.bias, self.name = weight, bias, words[-1]
        self.pad, self.stride = (int(words[words.index(word) + 1]) if word in words else default
                                 for word, default in (("pad", 0), ("stride", 1)))
        self.rounds = weight.shape[1] >= 4

    def forward(self, x, product):
        x = np.pad(x, ((0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad)))
        kernel, step = self.weight.shape[2], self.stride
        seen = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))[:, :, ::step, ::step]
        seen = seen.transpose(0, 2, 3, 1, 4, 5)
        self.padded, self.seen = x.shape, seen.shape
        self.windows = seen.reshape(-1, self.weight[0].size)
        z = product(self.windows, self.weight.reshape(len(self.weight), -1).T) + self.bias
        self.y = ACTIVATIONS[self.name][0](z)
        return self.y.reshape(*seen.shape[:3], -1).transpose(0, 3, 1, 2)

    def backward(self, dy, product):
        dz = dy.transpose(0, 2, 3, 1).reshape(self.y.shape) * ACTIVATIONS[self.name][1](self.y)
        gradients = [product(dz.T, self.windows).reshape(self.weight.shape), dz.sum(axis=0)]
        of_windows = product(dz, self.weight.reshape(len(self.weight), -1)).reshape(self.seen)
        dx, (height, width) = np.zeros(self.padded), self.seen[1:3]
        for u, v in np.ndindex(self.weight.shape[2:]):
            dx[:, :, u:u + self.stride * height:self.stride, v:v + self.stride * width:self.stride] += \
                of_windows[..., u, v].transpose(0, 3, 1, 2)
        return dx[:, :, self.pad:self.padded[2] - self.pad, self.pad:self.padded[3] - self.pad], gradients


class Lstm:
    """Over the rows of an image. The gates are i, f, g, o."""

    def __init__(self, words, of_input, of_hidden, bias):
        self.weight, self.bias, self.hidden = np.hstack([of_input, of_hidden]), bias, int(words[0])
        self.rounds = min(self.weight.shape) >= 32

    def forward(self, x, product):
        h, c = np.zeros((2, len(x), self.hidden))
        self.steps = []
        for row in x[:, 0].transpose(1, 0, 2):
            seen, before = np.hstack([row, h]), c
            i, f, g, o = np.split(product(seen, self.weight.T) + self.bias, 4, axis=1)
            i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
            c = f * before + i * g
            h = o * np.tanh(c)
            self.steps.append((seen, before, i, f, g, o, np.tanh(c)))
        return h

    def backward(self, dy, product):
        dh, dc, deltas = dy, 0, []
        for _, before, i, f, g, o, tanh_c in reversed(self.steps):
            dc = dc + dh * o * (1 - tanh_c**2)
            dz = np.hstack([dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - g**2),
                            dh * tanh_c * o * (1 - o)])
            dc = dc * f
            dh = product(dz, self.weight)[:, -self.hidden:]
            deltas.insert(0, dz)
        deltas, seen = np.vstack(deltas), np.vstack([step[0] for step in self.steps])
        weight = product(deltas.T, seen)
        return None, [weight[:, :-self.hidden], weight[:, -self.hidden:], deltas.sum(axis=0)]


KINDS = {"dense": (Dense, ("weight", "bias")), "conv": (Convolution, ("weight", "bias")),
         "lstm": (Lstm, ("weight_ih", "weight_hh", "bias"))}


def gradients(layers, weights, images, labels, *, rounded):
    """The mean cost and, by path, its derivative with respect to each of `weights`, the datasets of a checkpoint.
    `layers` is that of a config, with cross-entropy as the cost."""
    network = []
    for number, text in enumerate(layers.split(","), 1):
        kind, *words = text.split()
        make, parts = KINDS[kind]
        paths = [f"/model/{number:02}_{kind}/{part}" for part in parts]
        layer = make(words, *(weights[path].astype(np.float64) for path in paths))
        product = rounded_product if rounded and layer.rounds else np.matmul
        network.append((layer, paths, product))

    values = inputs_of(images).reshape(len(images), 1, *images.shape[1:])
    for layer, _, product in network:
        values = layer.forward(values, product)
    cost, delta = COSTS["cross_entropy"](values, one_hot(labels))
    delta = delta * len(images)  # dtrain divides by the samples of a step at the end, which matters to the rounding
    found = {}
    for layer, paths, product in reversed(network):
        delta, of_layer = layer.backward(delta, product)
        found.update({path: gradient / len(images) for path, gradient in zip(paths, of_layer)})
    return cost, found
