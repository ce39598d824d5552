"""The types of layers: how the config describes them, their shapes, and their tensors in a checkpoint.
configs/README.md defines the layers. A new type is a class here and a line in LAYER_TYPES."""

import math

ACTIVATIONS = ("linear", "sigmoid", "relu", "tanh")


class Layer:
    """A layer of a network, and its parameters."""

    def __init__(self, label, text, input_shape):
        self.label = label  # "01_dense", the name of its group in the checkpoint
        self.text = text  # "dense 16 sigmoid"
        self.kind, *words = text.split()
        self.activation = "linear"
        self.input_shape = input_shape
        self.output_shape = ()
        self.shapes = {}  # of its tensors in the checkpoint, by name, in the order of dtrain
        self.tensors = {}
        self.parse(words)

    def parse(self, words):
        """Sets output_shape and shapes from the words after the type. Raises ValueError, IndexError or
        ZeroDivisionError for words that it does not know."""
        raise NotImplementedError

    def end_with_activation(self, words):
        """Reads the activation that ends a layer's text."""
        if words:
            self.activation, = words
        if self.activation not in ACTIVATIONS:
            raise ValueError("not an activation")


class Dense(Layer):
    def parse(self, words):
        outputs = int(words[0])
        self.end_with_activation(words[1:])
        self.shapes = {"weight": (outputs, math.prod(self.input_shape)), "bias": (outputs,)}
        self.output_shape = (outputs,)


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
        self.end_with_activation(rest)
        channels, *sizes = self.input_shape
        self.kernel = kernel
        self.shapes = {"weight": (maps, channels, kernel, kernel), "bias": (maps,)}
        self.output_shape = (maps, *((size + 2 * self.padding - kernel) // self.stride + 1 for size in sizes))


class Pool(LayerOnMaps):
    """The windows do not overlap. What does not fill a window is dropped."""

    def parse(self, words):
        super().parse(words)
        self.window, = map(int, words)
        channels, *sizes = self.input_shape
        self.output_shape = (channels, *(size // self.window for size in sizes))


class Lstm(Layer):
    """The output is the hidden state after the last time step."""

    def parse(self, words):
        self.units, = map(int, words)
        _, features = self.input_shape
        self.shapes = {"weight_ih": (4 * self.units, features), "weight_hh": (4 * self.units, self.units),
                       "bias": (4 * self.units,)}
        self.output_shape = (self.units,)


class BatchNorm(Layer):
    """Normalises with the running means and variances."""
    epsilon = 1e-5  # added to the variances

    def parse(self, words):
        self.end_with_activation(words)
        if len(self.input_shape) not in (1, 3):
            raise ValueError("the input is neither a vector nor feature maps")
        self.shapes = {name: self.input_shape[:1] for name in ("weight", "bias", "running_mean", "running_var")}
        self.output_shape = self.input_shape


class Dropout(Layer):
    """Changes nothing outside of training."""

    def parse(self, words):
        self.output_shape = self.input_shape


LAYER_TYPES = {"dense": Dense, "conv": Convolution, "maxpool": Pool, "avgpool": Pool, "lstm": Lstm,
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
