"""What an exported file says about its network, and why there may be none."""


class TooLarge(Exception):
    """The network does not fit into the format."""


def facts_of(network):
    """Texts by name."""
    facts = {name: str(network.attributes[name])
             for name in ("dtrain_version", "fingerprint", "epoch", "step", "dataset")}
    facts |= {"classes": str(network.outputs), "layers": network.config["model.layers"], "cost": network.cost,
              "input": f"batch x {' x '.join(map(str, network.input_shape))}, float32; bytes are divided by 255",
              "output": f"batch x {network.outputs}, float32: " + (
                  "probabilities of the classes, by softmax after the last layer" if network.has_softmax else
                  "activations of the last layer; the largest one is the predicted class"),
              "config": str(network.attributes["config"])}
    # Paths in the config need not be valid UTF-8.
    return {name: text.encode(errors="replace").decode() for name, text in facts.items()}
