"""Signs: what binary convolutions read, made once for all that read the same."""

import torch

from binseg.compiler.graph import Graph, Node, Value
from binseg.nn.activations import AdaptiveSign, LearntSign
from binseg.nn.layers import BinaryConv2d


def take_signs(graph: Graph) -> None:
    """Let binary convolutions read bits; signs of one map with one threshold are taken once."""
    known: dict[tuple[Value, int, int], Value] = {}
    for node in graph.of("binary"):
        conv = node.layer
        assert isinstance(conv, BinaryConv2d)
        x, activation = node.inputs[0], conv.binarize_input
        bases = len(node.attributes["dilations"]) if _own_inputs(node, conv) else 1
        own = isinstance(activation, LearntSign | AdaptiveSign)
        key = (x, id(activation) if own else 0, bases)
        if key not in known:
            known[key] = _sign(graph, node, x, bases)
        node.inputs = [known[key]]


def _own_inputs(node: Node, conv: BinaryConv2d) -> bool:
    """Whether each base reads channels of its own."""
    return bool(node.attributes["shared_weight"]) or not conv.shared_input


def _sign(graph: Graph, node: Node, x: Value, bases: int) -> Value:
    conv = node.layer
    assert isinstance(conv, BinaryConv2d)
    activation, inputs, tensors = conv.binarize_input, [x], {}
    name = f"{node.name}.binarize_input"
    if isinstance(activation, LearntSign):
        tensors["shift"] = activation.shift.detach().cpu().double()
    elif isinstance(activation, AdaptiveSign):
        inputs.append(_adaptive_shift(graph, node, x, activation, name))
    sign = graph.add(
        "pack_sign",
        inputs,
        name,
        at=node,
        attributes={"bit_bases": bases},
        tensors=tensors,
        layer=activation,
    )
    return sign.give("bits", x.channels, kind="bits", pixel=x.pixel)


def _adaptive_shift(
    graph: Graph, node: Node, x: Value, activation: AdaptiveSign, name: str
) -> Value:
    """s of `AdaptiveSign`, real (1, 1, C)."""
    y = graph.add("spatial_mean", [x], name, at=node).give("real", x.channels, pixel=True)
    for part, act in (("squeeze", "relu"), ("excite", "sigmoid")):
        weight = activation.get_parameter(f"{part}.weight").detach().cpu().double()
        conv = graph.add(
            "conv",
            [y],
            f"{name}.{part}",
            at=node,
            attributes={
                "kernel": [1, 1],
                "stride": [1, 1],
                "pads": [0, 0, 0, 0],
                "dilation": [1, 1],
                "groups": 1,
                "bases": 1,
                "exact": True,
                "act": act,
            },
            tensors={
                "weight": weight[:, None, None],
                "bias": torch.zeros(len(weight), dtype=torch.float64),
            },
        )
        y = conv.give("real", len(weight), pixel=True)
    return y


def average_before_norms(graph: Graph) -> None:
    """The mean of a normalised map is the mean of the map, normalised, of one pixel.

    Only where everything else reads signs of the normalised map, which then need not be made.
    """
    for norm in graph.of("affine"):
        value = norm.result
        users = graph.users(value)
        means = [user for user in users if user.kind == "spatial_mean"]
        if not means or not all(_is_plain(u) for u in users if u not in means):
            continue
        for mean in means:
            mean.inputs = list(norm.inputs)
            later = graph.add(
                "affine", [mean.result], norm.name, at=mean, tensors=norm.tensors, layer=norm.layer
            )
            graph.replace(mean.result, later.give("real", value.channels, pixel=True))
            later.inputs = [mean.result]
    graph.sort()


def fold_norms_into_signs(graph: Graph) -> None:
    """BatchNorm → sign as one operator, where nobody else reads the normalised map."""
    for norm in graph.of("affine"):
        users = graph.users(norm.result)
        if len(norm.inputs) > 1 or not users or not all(_is_plain(user) for user in users):
            continue
        for sign in users:
            sign.inputs = list(norm.inputs)
            sign.tensors |= {"gain": norm.tensors["scale"], "shift": norm.tensors["bias"]}
        graph.remove(norm)


def _is_plain(node: Node) -> bool:
    """Whether a node takes signs without a threshold."""
    return node.kind == "pack_sign" and len(node.inputs) == 1 and not node.tensors
