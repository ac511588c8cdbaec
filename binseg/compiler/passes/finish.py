"""Activations, signs and bytes of a map, made by the operator that makes the map."""

from binseg.compiler.graph import Graph, Node, Value

_FINISHERS = frozenset(
    {
        "conv_real",
        "conv_merge",
        "conv_int8",
        "conv_int8_pool",
        "conv",
        "affine",
        "add",
        "mul",
        "act",
        "max_pool",
        "avg_pool",
        "adaptive_avg_pool",
        "spatial_mean",
        "channel_mean",
        "group_norm",
        "resize",
        "concat",
        "slice",
    }
)


def take_activations(graph: Graph) -> None:
    """operator → activation as one operator."""
    for node in list(graph.nodes):
        if node.kind not in _FINISHERS or "act" in node.attributes or set(node.outputs) != {"real"}:
            continue
        user = graph.only_user(node.result, "act")
        if user is None:
            continue
        node.attributes["act"] = user.attributes["act"]
        node.tensors |= user.tensors
        node.take_over(user.result, "real")
        graph.remove(user)


def take_signs_and_bytes(graph: Graph) -> None:
    """Signs and 8-bit copies of a real map leave the operator that makes it."""
    for node in list(graph.nodes):
        if node.kind not in _FINISHERS:
            continue
        gated = "gates" in node.tensors
        signed = node.outputs.get("branches" if gated else "real")
        if signed is not None:
            _take_signs(graph, node, signed)
        stored = node.outputs.get("merged" if gated else "real")
        if stored is not None:
            _take_bytes(graph, node, stored)
    graph.sort()


def _take_signs(graph: Graph, node: Node, value: Value) -> None:
    for sign in graph.users(value):
        if sign.kind != "pack_sign" or len(sign.inputs) > 1 or "gain" in sign.tensors:
            continue
        bases = sign.attributes["bit_bases"]
        fixed = 1
        if node.kind == "conv_merge":
            fixed = len(node.tensors.get("gates", ())) or 1
            if bases != fixed:
                continue
        node.attributes["bit_bases"] = bases
        if "shift" in sign.tensors:
            node.tensors["threshold"] = sign.tensors["shift"]
        node.take_over(sign.result, "bits")
        graph.remove(sign)
        return


def _take_bytes(graph: Graph, node: Node, value: Value) -> None:
    for quantize in graph.users(value):
        if quantize.kind == "quantize":
            node.attributes["bytes"] = quantize.attributes["bytes"]
            node.take_over(quantize.result, "bytes")
            graph.remove(quantize)
            return
