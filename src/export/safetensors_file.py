"""Encodes the weights of a network as a safetensors file (https://github.com/huggingface/safetensors): the size of the
header in 8 bytes, the header in JSON, then the values. Everything is little-endian."""

import json
import struct

import numpy as np

from facts import facts_of

PRODUCER = {"producer": "dtrain"}


def encode(network, version):
    header = {"__metadata__": {**PRODUCER, "producer_version": version, "format": "pt", **facts_of(network)}}
    values, end = [], 0
    for layer in network.layers:
        for name, tensor in pytorch_tensors(layer).items():
            values.append(tensor.astype("<f4").tobytes())
            begin, end = end, end + len(values[-1])
            header[f"{layer.label}.{name}"] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the values
    return b"".join([struct.pack("<Q", len(text)), text, *values])


def pytorch_tensors(layer):
    """The state of PyTorch's module of this type, by PyTorch's names."""
    if layer.kind != "lstm":
        return layer.tensors
    bias = layer.tensors["bias"]  # PyTorch adds two
    return {"weight_ih_l0": layer.tensors["weight_ih"], "weight_hh_l0": layer.tensors["weight_hh"],
            "bias_ih_l0": bias, "bias_hh_l0": np.zeros_like(bias)}


def is_own(path):
    """Whether dtrain-export wrote the file."""
    start = json.dumps({"__metadata__": PRODUCER}, separators=(",", ":")).rstrip("}").encode()
    with open(path, "rb") as file:
        return file.read(8 + len(start))[8:] == start
