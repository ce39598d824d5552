"""What each type of layer is in ONNX. A new type is a function here and a line in OPERATIONS."""

import numpy as np

ACTIVATIONS = {"sigmoid": "Sigmoid", "relu": "Relu", "tanh": "Tanh"}


def add(graph, layer):
    """Adds the layer to an onnx_file.Graph."""
    OPERATIONS[layer.kind](graph, layer)
    if layer.activation != "linear":
        graph.apply(ACTIVATIONS[layer.activation])


def dense(graph, layer):
    if len(layer.input_shape) > 1:
        graph.apply("Flatten", axis=1)
    graph.apply("Gemm", layer.tensors, transB=1)


def convolution(graph, layer):
    graph.apply("Conv", layer.tensors, kernel_shape=[layer.kernel] * 2, strides=[layer.stride] * 2,
                pads=[layer.padding] * 4)


def max_pool(graph, layer):
    graph.apply("MaxPool", kernel_shape=[layer.window] * 2, strides=[layer.window] * 2)


def average_pool(graph, layer):
    graph.apply("AveragePool", kernel_shape=[layer.window] * 2, strides=[layer.window] * 2)


def lstm(graph, layer):
    def of_onnx(name):
        """ONNX has the gates in the order input, output, forget, cell; the first dimension is the direction."""
        i, f, g, o = np.split(layer.tensors[name], 4)
        return np.concatenate([i, o, f, g])[np.newaxis]

    bias = of_onnx("bias")
    tensors = {"weight_ih": of_onnx("weight_ih"), "weight_hh": of_onnx("weight_hh"),
               "bias": np.concatenate([bias, np.zeros_like(bias)], axis=1)}  # ONNX adds two
    graph.apply("Transpose", perm=[1, 0, 2])  # time steps x samples x features
    graph.apply("LSTM", tensors, output=1, hidden_size=layer.units)  # output 1: the last hidden state
    graph.apply("Reshape", {"shape": np.array([-1, layer.units], np.int64)})  # without the direction


def batch_norm(graph, layer):
    graph.apply("BatchNormalization", layer.tensors, epsilon=layer.epsilon)


def dropout(graph, layer):
    """Changes nothing outside of training."""


OPERATIONS = {"dense": dense, "conv": convolution, "maxpool": max_pool, "avgpool": average_pool, "lstm": lstm,
              "dropout": dropout, "batchnorm": batch_norm}
