"""The types of layers: how the config describes them, their tensors in a checkpoint, and what they are in ONNX and
PyTorch. configs/README.md defines the layers. A new type is a class here and a line in LAYER_TYPES."""

import math

import numpy as np

ACTIVATIONS = {"linear": None, "sigmoid": "Sigmoid", "relu": "Relu", "tanh": "Tanh"}  # operators of ONNX


class Layer:
    """A layer of a network, and its parameters."""

    def __init__(self, label, text, input_shape):
        self.label = label  # "01_dense", the name of its group in the checkpoint
        self.text = text  # "dense 16 sigmoid"
        self.input_shape = input_shape
        self.output_shape = ()
        self.shapes = {}  # of its tensors in the checkpoint, by name, in the order of dtrain
        self.tensors = {}
        self.parse(text.split()[1:])

    def parse(self, words):
        """Sets output_shape and shapes from the words after the type. Raises ValueError, IndexError, KeyError or
        ZeroDivisionError for words that it does not know."""
        raise NotImplementedError

    def add_to(self, graph):
        """Adds the layer to an onnx_file.Graph."""
        raise NotImplementedError

    def pytorch_tensors(self):
        """The state of PyTorch's module of this type, by PyTorch's names."""
        return self.tensors


def activation_in(words):
    """The operator of the activation that ends a layer's text."""
    if len(words) > 1:
        raise ValueError("more than one word where an activation is expected")
    return ACTIVATIONS[words[0]] if words else None


class Dense(Layer):
    def parse(self, words):
        outputs = int(words[0])
        self.activation = activation_in(words[1:])
        self.shapes = {"weight": (outputs, math.prod(self.input_shape)), "bias": (outputs,)}
        self.output_shape = (outputs,)

    def add_to(self, graph):
        if len(self.input_shape) > 1:
            graph.apply("Flatten", axis=1)
        graph.apply("Gemm", self.tensors, transB=1)
        if self.activation:
            graph.apply(self.activation)


class LayerOnMaps(Layer):
    """Its input is feature maps: channels x rows x columns. Rows x columns are one channel."""

    def parse(self, words):
        if len(self.input_shape) == 2:
            self.input_shape = (1, *self.input_shape)
        if len(self.input_shape) != 3:
            raise ValueError("the input is not feature maps")


class Convolution(LayerOnMaps):
    def parse(self, words):
        super().parse(words)
        maps, kernel, columns = map(int, words[0].split("x"))
        if columns != kernel:
            raise ValueError("the kernel is not square")
        rest = words[1:]
        self.padding, self.stride = 0, 1
        if rest[:1] == ["pad"]:
            self.padding, rest = int(rest[1]), rest[2:]
        if rest[:1] == ["stride"]:
            self.stride, rest = int(rest[1]), rest[2:]
        self.activation = activation_in(rest)
        channels, *sizes = self.input_shape
        self.kernel = kernel
        self.shapes = {"weight": (maps, channels, kernel, kernel), "bias": (maps,)}
        self.output_shape = (maps, *((size + 2 * self.padding - kernel) // self.stride + 1 for size in sizes))

    def add_to(self, graph):
        graph.apply("Conv", self.tensors, kernel_shape=[self.kernel] * 2, strides=[self.stride] * 2,
                    pads=[self.padding] * 4)
        if self.activation:
            graph.apply(self.activation)


class Pool(LayerOnMaps):
    """The windows do not overlap. What does not fill a window is dropped, by default in ONNX and PyTorch too."""
    operator = None

    def parse(self, words):
        super().parse(words)
        self.window, = map(int, words)
        channels, *sizes = self.input_shape
        self.output_shape = (channels, *(size // self.window for size in sizes))

    def add_to(self, graph):
        graph.apply(self.operator, kernel_shape=[self.window] * 2, strides=[self.window] * 2)


class MaxPool(Pool):
    operator = "MaxPool"


class AveragePool(Pool):
    operator = "AveragePool"


class Lstm(Layer):
    """The output is the hidden state after the last time step."""

    def parse(self, words):
        self.units, = map(int, words)
        _, features = self.input_shape
        self.shapes = {"weight_ih": (4 * self.units, features), "weight_hh": (4 * self.units, self.units),
                       "bias": (4 * self.units,)}
        self.output_shape = (self.units,)

    def add_to(self, graph):
        def of_onnx(name):
            """ONNX has the gates in the order input, output, forget, cell; the first dimension is the direction."""
            i, f, g, o = np.split(self.tensors[name], 4)
            return np.concatenate([i, o, f, g])[np.newaxis]

        bias = of_onnx("bias")
        tensors = {"weight_ih": of_onnx("weight_ih"), "weight_hh": of_onnx("weight_hh"),
                   "bias": np.concatenate([bias, np.zeros_like(bias)], axis=1)}  # ONNX adds two
        graph.apply("Transpose", perm=[1, 0, 2])  # time steps x samples x features
        graph.apply("LSTM", tensors, output=1, hidden_size=self.units)  # output 1: the last hidden state
        graph.apply("Reshape", {"shape": np.array([-1, self.units], np.int64)})  # without the direction

    def pytorch_tensors(self):
        bias = self.tensors["bias"]  # PyTorch adds two
        return {"weight_ih_l0": self.tensors["weight_ih"], "weight_hh_l0": self.tensors["weight_hh"],
                "bias_ih_l0": bias, "bias_hh_l0": np.zeros_like(bias)}


class BatchNorm(Layer):
    """Normalises with the running means and variances."""

    def parse(self, words):
        self.activation = activation_in(words)
        if len(self.input_shape) not in (1, 3):
            raise ValueError("the input is neither a vector nor feature maps")
        self.shapes = {name: self.input_shape[:1] for name in ("weight", "bias", "running_mean", "running_var")}
        self.output_shape = self.input_shape

    def add_to(self, graph):
        graph.apply("BatchNormalization", self.tensors, epsilon=1e-5)
        if self.activation:
            graph.apply(self.activation)


class Dropout(Layer):
    """Changes nothing outside of training."""

    def parse(self, words):
        self.output_shape = self.input_shape

    def add_to(self, graph):
        pass


LAYER_TYPES = {"dense": Dense, "conv": Convolution, "maxpool": MaxPool, "avgpool": AveragePool, "lstm": Lstm,
               "dropout": Dropout, "batchnorm": BatchNorm}


def parse(text, sample_shape):
    """The layers of model.layers. Raises ValueError with the text of a layer that is not known here."""
    layers, shape = [], sample_shape
    for number, entry in enumerate(text.split(","), start=1):
        try:
            kind = entry.split()[0]
            layer = LAYER_TYPES[kind](f"{number:02}_{kind}", entry.strip(), shape)
            if min(layer.output_shape, default=0) < 1:
                raise ValueError("no output")
        except (ValueError, IndexError, KeyError, ZeroDivisionError):
            raise ValueError(f"layer {number}, `{entry.strip()}`") from None
        layers.append(layer)
        shape = layer.output_shape
    return layers
