"""Encodes a network as an ONNX file (https://onnx.ai)."""

import onnx
from onnx import TensorProto, helper, numpy_helper

import onnx_layers
from facts import TooLarge, facts_of

OPSET, IR_VERSION = 13, 7  # of ONNX 1.8 (2020): programs that are older than dtrain can read the file
MAX_PARAMETERS = (1 << 29) - (1 << 20)  # a file can have 2 GiB, and other contents need some
BATCH = "batch"  # the name of the first dimension, which may have any size


class Graph:
    """A chain of nodes: each takes the output of the node before it."""

    def __init__(self):
        self.nodes, self.tensors = [], []
        self._label, self._text, self._value = "", "", "input"

    def begin(self, label, text):
        """The next nodes belong to the layer `label`."""
        self._label, self._text = label, text

    def apply(self, operator, tensors={}, output=0, **attributes):
        """Adds a node. Its inputs are the value so far, then `tensors`, {name: array}. Its output number `output` is
        the new value."""
        names = [f"{self._label}.{name}" for name in tensors]
        self.tensors += map(numpy_helper.from_array, tensors.values(), names)
        name = f"{self._label}/{operator}"
        self.nodes.append(helper.make_node(operator, [self._value, *names], [""] * output + [name], name=name,
                                           doc_string=self._text, **attributes))
        self._value = name

    def end(self):
        """The value so far is the output of the network."""
        self.nodes[-1].output[-1] = "output"


def encode(network, version):
    if network.parameters > MAX_PARAMETERS:
        raise TooLarge(f"an ONNX file can have at most {MAX_PARAMETERS:,} parameters, and the network has "
                       f"{network.parameters:,}. Write a .safetensors file")
    facts, graph = facts_of(network), Graph()
    for layer in network.layers:
        graph.begin(layer.label, layer.text)
        onnx_layers.add(graph, layer)
    graph.begin("output", "")
    if len(network.layers[-1].output_shape) > 1:
        graph.apply("Flatten", axis=1)
    if network.has_softmax:
        graph.apply("Softmax", axis=1)
    graph.end()

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape], facts[name])

    made = helper.make_graph(graph.nodes, "dtrain", [value("input", *network.input_shape)],
                             [value("output", network.outputs)], graph.tensors, doc_string=facts["layers"])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                              producer_name="dtrain", producer_version=version)
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def is_own(path):
    """Whether dtrain-export wrote the file: its first fields are the version of the format and the producer's name."""
    with open(path, "rb") as file:
        return b"\x12\x06dtrain" in file.read(16)
