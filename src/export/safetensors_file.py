"""Encodes the weights of a network as a safetensors file (https://github.com/huggingface/safetensors): the size of the
header in 8 bytes, the header in JSON, then the values. Everything is little-endian."""

import json
import struct

PRODUCER = {"producer": "dtrain"}


def encode(network, version):
    header = {"__metadata__": {**PRODUCER, "producer_version": version, "format": "pt", **network.facts}}
    values, end = [], 0
    for layer in network.layers:
        for name, tensor in layer.pytorch_tensors().items():
            values.append(tensor.astype("<f4").tobytes())
            begin, end = end, end + len(values[-1])
            header[f"{layer.label}.{name}"] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the values
    return b"".join([struct.pack("<Q", len(text)), text, *values])


def is_own(path):
    """Whether dtrain-export wrote the file."""
    start = json.dumps({"__metadata__": PRODUCER}, separators=(",", ":")).rstrip("}").encode()
    with open(path, "rb") as file:
        return file.read(8 + len(start))[8:] == start
