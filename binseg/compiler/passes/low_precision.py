"""Real convolutions in 8 bits or with bfloat16 weights."""

import torch
from torch import Tensor

from binseg.compiler.calibration import Range
from binseg.compiler.graph import Graph, Node
from binseg.data.preprocess import Preprocessing

_LARGEST_INT8 = 127
_LARGEST_SUM = 2**31 - 1
_MOST_GROUPS = 8
"""Groups that run as one dense convolution: sums of zeros cost less than separate groups."""

_STORED = ("real", "branches", "merged")
_AS_READ = frozenset({"pad", "crop", "flatten"})
"""Operators whose result is stored as their input is."""
_LINEAR = frozenset({"add", "affine", "concat", "crop", "resize", "slice"})


def score_convolutions(graph: Graph) -> set[Node]:
    """The convolutions that give class scores, or parts of them: they stay float32.

    They cost a few hundredths of the time and decide between classes.
    """
    return {node for node in _score_nodes(graph) if node.kind == "conv"}


def _score_nodes(graph: Graph) -> set[Node]:
    """What gives class scores, back to the convolutions that they come from."""
    (output,) = graph.of("output")
    found: set[Node] = set()
    pending = [output.inputs[0].node]
    while pending:
        node = pending.pop()
        if node.kind != "conv" and node.kind not in _LINEAR:
            continue
        found.add(node)
        if node.kind == "conv":
            pending += [each.node for each in node.inputs[1:]]  # the residual
        else:
            sized = node.kind in ("crop", "resize")
            pending += [each.node for each in (node.inputs[:1] if sized else node.inputs)]
    return found


def store_maps_in_bfloat16(graph: Graph) -> None:
    """Real maps from operator to operator in half the bytes; scores and single pixels stay as they
    are, and so do signs and bytes, which are taken before a map is stored."""
    scores = _score_nodes(graph)
    for node in graph.nodes:
        stored = [node.outputs[role] for role in _STORED if role in node.outputs]
        if stored and node.kind not in _AS_READ and node not in scores and not stored[0].pixel:
            node.attributes["dtype"] = "bf16"


def to_bfloat16(graph: Graph, keeps_float: set[Node]) -> None:
    """Weights of real convolutions in bfloat16."""
    for conv in graph.of("conv"):
        if (
            conv not in keeps_float
            and not conv.attributes.get("exact")
            and "scale" not in conv.tensors
        ):
            conv.attributes["bf16_weight"] = True


def to_int8(
    graph: Graph,
    ranges: dict[torch.nn.Module, Range],
    keeps_float: set[Node],
    preprocessing: Preprocessing,
) -> None:
    """Real convolutions over bytes: of their input, rounded, or of the image itself.

    Args:
        ranges: of the inputs of the trained convolutions.
        keeps_float: convolutions that stay as they are.
        preprocessing: what the image is normalised with.
    """
    quantized: dict[object, object] = {}
    for conv in graph.of("conv"):
        if conv in keeps_float or conv.attributes.get("exact") or conv.layer not in ranges:
            continue
        attributes = conv.attributes
        groups = attributes["groups"]
        if groups > _MOST_GROUPS:
            continue
        if "scale" not in conv.tensors:
            conv.tensors["weight"] = _dense(conv.tensors["weight"], groups)
        if conv.tensors["weight"][0].numel() * 255 * 128 > _LARGEST_SUM:
            continue  # sums that 31 bits may not hold
        del attributes["groups"]
        conv.kind = "conv_int8"
        x = conv.inputs[0]
        if x.node.kind == "normalize":
            _read_image(conv, preprocessing)
            continue
        seen = ranges[conv.layer]
        if x not in quantized:
            node = graph.add(
                "quantize",
                [x],
                f"{conv.name}.input",
                at=conv,
                attributes={"bytes": [1 / seen.scale, seen.zero_point]},
            )
            quantized[x] = (node.give("bytes", x.channels, kind="bytes", pixel=x.pixel), seen)
        conv.inputs[0], seen = quantized[x]  # type: ignore[misc]
        attributes["border"] = seen.zero_point
        levels, step = _levels(conv)
        total = levels.sum(dim=(1, 2, 3))
        _set_curve(conv, step * seen.scale, -step * seen.scale * seen.zero_point * total)


def _read_image(conv: Node, preprocessing: Preprocessing) -> None:
    """Let a convolution read the image's bytes, with the normalization in its weights and curve.

    Inside the image the sums are those of the normalised image; what lies outside is the byte
    nearest to the mean, which was 0 in the trained network.
    """
    mean = 255 * torch.tensor(preprocessing.mean, dtype=torch.float64)
    std = 255 * torch.tensor(preprocessing.std, dtype=torch.float64)
    conv.inputs[0] = conv.inputs[0].node.inputs[0]
    conv.attributes["border"] = [min(max(round(float(value)), 0), 255) for value in mean]
    if "scale" in conv.tensors:
        signs = conv.tensors.pop("weight").double() * 2 - 1
        conv.tensors["weight"] = signs * conv.tensors.pop("scale").view(-1, 1, 1, 1)
    conv.tensors["weight"] = conv.tensors["weight"] / std
    levels, step = _levels(conv)
    _set_curve(conv, step, -step * (levels * mean).sum(dim=(1, 2, 3)))


def _levels(conv: Node) -> tuple[Tensor, Tensor]:
    """Round the weights: their integers, and the size of a step for each output channel."""
    weight = conv.tensors["weight"]
    if "scale" in conv.tensors:  # weights of 1 bit are ±127
        return (weight.double() * 2 - 1) * _LARGEST_INT8, conv.tensors.pop("scale") / _LARGEST_INT8
    step = weight.abs().amax(dim=(1, 2, 3)) / _LARGEST_INT8
    step = torch.where(step > 0, step, torch.ones_like(step))
    levels = (weight / step.view(-1, 1, 1, 1)).round()
    conv.tensors["weight"] = levels.to(torch.int8)
    return levels, step


def _set_curve(conv: Node, scale: Tensor, shift: Tensor) -> None:
    conv.tensors["curve"] = torch.stack([scale, shift + conv.tensors.pop("bias")])


def _dense(weight: Tensor, groups: int) -> Tensor:
    """Weights of a grouped convolution as one group's, zeros between the groups."""
    if groups == 1:
        return weight
    rows, columns = len(weight) // groups, weight.shape[3]
    dense = weight.new_zeros(*weight.shape[:3], groups * columns)
    for group in range(groups):
        own = slice(group * rows, (group + 1) * rows)
        dense[own, ..., group * columns : (group + 1) * columns] = weight[own]
    return dense
