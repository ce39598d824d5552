"""The training step in NumPy double precision, written from the formulas, independently of the program.

Shapes: N samples, I inputs, O outputs; a weight is O x I and a batch N x I.
"""

import dataclasses
import functools

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# Each activation, with its derivative as a function of its value.
ACTIVATIONS = {
    "sigmoid": (sigmoid, lambda a: a * (1 - a)),
    "relu": (lambda z: np.maximum(z, 0), lambda a: (a > 0).astype(a.dtype)),
    "tanh": (np.tanh, lambda a: 1 - a * a),
    "linear": (lambda z: z, np.ones_like),
}


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def quadratic(outputs, targets):
    """The cost and its derivative with respect to the outputs."""
    difference = outputs - targets
    return np.sum(difference**2) / len(outputs), 2 * difference / len(outputs)


def cross_entropy(outputs, targets):
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -np.sum(log_probabilities * targets) / len(outputs), (softmax(outputs) - targets) / len(outputs)


COSTS = {"quadratic": quadratic, "cross_entropy": cross_entropy}


# Optimizers: one step of a tensor p with gradient g. `step` begins at 1. All but LARS follow PyTorch's definition.

def sgd(p, g, state, step, rate, momentum, weight_decay):
    p -= rate * (g + weight_decay * p)


def heavy_ball(p, g, state, step, rate, momentum, weight_decay, nesterov=False):
    g = g + weight_decay * p
    state[0][:] = momentum * state[0] + g
    p -= rate * (g + momentum * state[0] if nesterov else state[0])


def adam(p, g, state, step, rate, momentum, weight_decay, decoupled=False):
    if decoupled:
        p *= 1 - rate * weight_decay
    else:
        g = g + weight_decay * p
    mean, square = state
    mean[:] = momentum * mean + (1 - momentum) * g
    square[:] = 0.999 * square + 0.001 * g**2
    p -= rate * mean / (1 - momentum**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)


def lars(p, g, state, step, rate, momentum, weight_decay):
    """You, Gitman and Ginsburg, https://arxiv.org/abs/1708.03888, algorithm 1. Biases use the plain learning rate."""
    norm = np.linalg.norm(p)
    if p.ndim > 1 and norm > 0:
        rate *= 0.001 * norm / (np.linalg.norm(g) + weight_decay * norm)
    state[0][:] = momentum * state[0] + rate * (g + weight_decay * p)
    p -= state[0]


OPTIMIZERS = {"sgd": sgd, "momentum": heavy_ball, "nesterov": functools.partial(heavy_ball, nesterov=True),
              "adam": adam, "adamw": functools.partial(adam, decoupled=True), "lars": lars}


def inputs_of(images):
    return images.reshape(len(images), -1) / 255.0


def one_hot(labels):
    return np.eye(10)[labels]


@dataclasses.dataclass
class ReferenceNetwork:
    parameters: list  # weight, bias, weight, bias ...
    activations: list
    cost: str

    @classmethod
    def from_checkpoint(cls, datasets, activations, cost):
        """From the datasets of a checkpoint by path, as returned by read_h5."""
        layers = sorted({name.rpartition("/")[0] for name in datasets if name.startswith("/model/")})
        assert len(layers) == len(activations), layers
        parameters = [datasets[f"{layer}/{part}"].astype(np.float64) for layer in layers for part in ("weight", "bias")]
        return cls(parameters, list(activations), cost)

    def forward(self, inputs):
        """The values of every layer, beginning with the inputs."""
        values = [inputs]
        for weight, bias, name in zip(self.parameters[::2], self.parameters[1::2], self.activations):
            values.append(ACTIVATIONS[name][0](values[-1] @ weight.T + bias))
        return values

    def evaluate(self, images, labels):
        """Cost, accuracy, and the confusion matrix: rows are the true classes."""
        outputs = self.forward(inputs_of(images))[-1]
        confusion = np.zeros((10, 10), int)
        np.add.at(confusion, (labels, outputs.argmax(axis=1)), 1)
        return COSTS[self.cost](outputs, one_hot(labels))[0], np.trace(confusion) / len(labels), confusion

    def gradients(self, inputs, targets):
        """The cost, and its derivative with respect to every parameter."""
        values = self.forward(inputs)
        cost, delta = COSTS[self.cost](values[-1], targets)
        gradients = []
        for layer in reversed(range(len(self.activations))):
            delta = delta * ACTIVATIONS[self.activations[layer]][1](values[layer + 1])
            gradients = [delta.T @ values[layer], delta.sum(axis=0), *gradients]
            delta = delta @ self.parameters[2 * layer]
        return cost, gradients

    def descend(self, images, labels, rates, *, optimizer, momentum=0.9, weight_decay=0.0):
        """A full-batch step with each of the learning rates. Returns the cost before each step."""
        inputs, targets = inputs_of(images), one_hot(labels)
        states = [tuple(np.zeros_like(p) for _ in range(2)) for p in self.parameters]
        costs = []
        for step, rate in enumerate(rates, 1):
            cost, gradients = self.gradients(inputs, targets)
            costs.append(cost)
            for p, state, g in zip(self.parameters, states, gradients):
                OPTIMIZERS[optimizer](p, g, state, step, rate, momentum, weight_decay)
        return costs
