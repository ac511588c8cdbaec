"""8-bit convolution and max-pooling as one operator."""

import torch

from binseg.compiler.graph import Graph

_MONOTONOUS = ("relu", "relu6", "tanh", "sigmoid", "hardtanh", "hardsigmoid")


def pool_integer_sums(graph: Graph) -> None:
    """conv_int8 (→ activation) → 3×3 max-pooling (→ BatchNorm) as `conv_int8_pool`.

    The maximum is taken of the integer sums. What stands before it is monotonous, as the scale of
    the sums is above 0, so it may as well come after, where there are four times fewer numbers.
    """
    for conv in graph.of("conv_int8"):
        act = graph.only_user(conv.result, "act")
        pool = graph.only_user((act or conv).result, "max_pool")
        if pool is None or len(conv.inputs) > 1 or "act" in conv.attributes:
            continue
        if act is not None and act.attributes["act"] not in _MONOTONOUS:
            continue
        if pool.attributes != {
            "kernel": [3, 3],
            "stride": [2, 2],
            "pads": [1, 1, 1, 1],
            "dilation": [1, 1],
        }:
            continue
        if not (conv.tensors["curve"][0] > 0).all():
            continue
        conv.kind = "conv_int8_pool"
        conv.take_over(pool.result, "real")
        graph.remove(pool)
        if act is not None:
            graph.remove(act)
            conv.attributes["act"] = act.attributes["act"]
            continue
        norm = graph.only_user(conv.result, "affine")
        if norm is None or len(norm.inputs) > 1:
            continue
        gain, shift = norm.tensors["scale"], norm.tensors["bias"]
        if len(gain) == conv.tensors["curve"].shape[1]:
            scale, bias = conv.tensors["curve"]
            conv.tensors["curve"] = torch.stack([scale * gain, bias * gain + shift])
            conv.take_over(norm.result, "real")
            graph.remove(norm)
