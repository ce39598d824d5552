"""Computes an ONNX file with NumPy in double precision, by the definitions of the operators in ONNX's documents. It
knows the operators that dtrain-export writes, and refuses attributes that it does not know."""

import numpy as np
import onnx
from onnx import numpy_helper


def run(path, samples):
    """The output of the network for `samples`."""
    graph = onnx.load(str(path)).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values[graph.input[0].name] = samples.astype(np.float64)
    for node in graph.node:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        outputs = OPERATORS[node.op_type](*(values[name] for name in node.input), **attributes)
        values |= dict(zip(node.output, outputs if isinstance(outputs, tuple) else (outputs,)))
    return values[graph.output[0].name]


def windows(x, kernel_shape, strides):
    """N x C x H' x W' x the window."""
    all_windows = np.lib.stride_tricks.sliding_window_view(x, kernel_shape, axis=(2, 3))
    return all_windows[:, :, ::strides[0], ::strides[1]]


def convolve(x, weight, bias, kernel_shape, strides, pads):
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    return np.einsum("ncijuv,mcuv->nmij", windows(padded, kernel_shape, strides), weight) + bias[:, None, None]


def flatten(x, axis):
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def multiply(x, weight, bias, transB):
    return x @ (weight.T if transB else weight) + bias


def normalise(x, weight, bias, mean, variance, epsilon):
    def shaped(values):
        return values.reshape(-1, *[1] * (x.ndim - 2)).astype(np.float64)

    return shaped(weight) * (x - shaped(mean)) / np.sqrt(shaped(variance) + epsilon) + shaped(bias)


def lstm(x, weight, recurrent_weight, bias, hidden_size):
    """One direction, gates in the order i, o, f, c. Returns Y and Y_h."""
    bias_of_input, bias_of_hidden = np.split(bias[0], 2)
    h = c = np.zeros((x.shape[1], hidden_size))
    states = []
    for step in x:
        sums = step @ weight[0].T + bias_of_input + h @ recurrent_weight[0].T + bias_of_hidden
        i, o, f, g = np.split(sums, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.stack(states)[:, np.newaxis], h[np.newaxis]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis):
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


OPERATORS = {
    "AveragePool": lambda x, kernel_shape, strides: windows(x, kernel_shape, strides).mean((-2, -1)),
    "BatchNormalization": normalise,
    "Conv": convolve,
    "Flatten": flatten,
    "Gemm": multiply,
    "LSTM": lstm,
    "MaxPool": lambda x, kernel_shape, strides: windows(x, kernel_shape, strides).max((-2, -1)),
    "Relu": lambda x: np.maximum(x, 0),
    "Reshape": lambda x, shape: x.reshape(shape),
    "Sigmoid": sigmoid,
    "Softmax": softmax,
    "Tanh": np.tanh,
    "Transpose": lambda x, perm: x.transpose(perm),
}
