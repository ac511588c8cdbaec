"""Scale, nonlinearity and BatchNorm after a binary convolution, as three numbers a channel."""

import torch
from torch import Tensor

from binseg.compiler.graph import Graph, Node
from binseg.compiler.passes.thresholds import weight_bits, weight_factor

_BENDS = ("relu", "prelu", "tanh")


def fit_curves(graph: Graph) -> None:
    """binary convolution (→ ReLU, PReLU or tanh) (→ BatchNorm) as `conv_real`."""
    for node in graph.of("binary"):
        bend = graph.only_user(node.result, "act")
        if bend is not None and bend.attributes["act"] not in _BENDS:
            bend = None
        norm = graph.only_user((bend or node).result, "affine")
        last = norm or bend or node
        node.kind = "conv_real"
        node.tensors = {"weight": weight_bits(node), "curve": _curve(node, bend, norm)}
        if bend is not None and bend.attributes["act"] == "tanh":
            node.attributes["tanh"] = True
        if last is not node:
            node.take_over(last.result, "real")
        for each in (bend, norm):
            if each is not None:
                graph.remove(each)


def _curve(node: Node, bend: Node | None, norm: Node | None) -> Tensor:
    """float64 (3, rows): of a sum s it is c₀·s + c₂ for s ≥ 0 and c₁·s + c₂ below, or
    c₀·tanh(c₁·s) + c₂."""
    factor = weight_factor(node)
    assert node.layer is not None
    rows = len(node.layer.get_parameter("weight"))
    ones = torch.ones(rows, dtype=torch.float64)
    scale = ones if factor is None else factor.double()
    gain = (
        ones if norm is None else norm.tensors["scale"].repeat(rows // len(norm.tensors["scale"]))
    )
    bias = 0 * ones
    if norm is not None:
        bias = norm.tensors["bias"].repeat(rows // len(norm.tensors["bias"]))
    kind = None if bend is None else bend.attributes["act"]
    if kind == "tanh":
        return torch.stack([gain, scale, bias])
    slope = ones
    if kind == "relu":
        slope = 0 * ones
    elif bend is not None:
        slope = bend.tensors["slope"].repeat(rows // len(bend.tensors["slope"]))
    return torch.stack([gain * scale, gain * scale * slope, bias])
