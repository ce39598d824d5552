"""The network of a config's list of layers, built from PyTorch's own modules."""

import warnings

import torch
from torch import nn

warnings.filterwarnings("ignore", "Lazy modules are a new feature")

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class LastState(nn.Module):
    """An LSTM over the rows of an image. Its output is the last hidden state."""

    def __init__(self, hidden):
        super().__init__()
        self.lstm = nn.LSTM(28, hidden, batch_first=True)

    def forward(self, x):
        return self.lstm(x[:, 0])[0][:, -1]


def build(layers):
    """For samples of 1 x 28 x 28, in float."""
    parts = []
    flat = False
    for layer in layers.split(","):
        kind, *words = layer.split()
        options = {key: int(words[words.index(key) + 1]) for key in ("pad", "stride") if key in words}
        if kind == "conv":
            maps, kernel = words[0].split("x")[:2]
            parts.append(nn.LazyConv2d(int(maps), int(kernel), stride=options.get("stride", 1),
                                       padding=options.get("pad", 0)))
        elif kind == "maxpool":
            parts.append(nn.MaxPool2d(int(words[0])))
        elif kind == "avgpool":
            parts.append(nn.AvgPool2d(int(words[0])))
        elif kind == "batchnorm":
            parts.append((nn.LazyBatchNorm1d if flat else nn.LazyBatchNorm2d)())
        elif kind == "lstm":
            parts.append(LastState(int(words[0])))
        elif kind == "dropout":
            parts.append(nn.Dropout(float(words[0])))
        elif kind == "dense":
            parts += [*([] if flat else [nn.Flatten()]), nn.LazyLinear(int(words[0]))]
            flat = True
        else:
            raise ValueError(f"no {kind} in PyTorch's terms")
        if words and words[-1] in ACTIVATIONS:
            parts.append(ACTIVATIONS[words[-1]]())
    network = nn.Sequential(*parts)
    network.eval()(torch.zeros(1, 1, 28, 28))  # defines the input sizes of the lazy modules
    return network.train()
