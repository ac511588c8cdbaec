"""The sum over the bases of a block and the next block's gates, in the convolution's operator."""

import torch

from binseg.compiler.graph import Graph, Node


def merge_bases(graph: Graph) -> None:
    """conv_real (→ activation) → sum of its bases (→ gates with that sum), as `conv_merge`."""
    for total in graph.of("base_sum"):
        branches = total.inputs[0]
        node, merged = branches.node, total.result
        bases = total.attributes["bases"]
        users = graph.users(branches)
        gates = [user for user in users if user.kind == "gate" and user.inputs[1] is merged]
        if (
            node.kind != "conv_real"
            or len(node.attributes["dilations"]) != bases
            or {"real"} != set(node.outputs)
            or len(gates) > 1
            or any(user is not total and user not in gates for user in users)
        ):
            continue
        node.kind = "conv_merge"
        if "act" in node.attributes:
            node.attributes["branch_act"] = node.attributes.pop("act")
            for role in {"before", "slope", "after"} & node.tensors.keys():
                node.tensors[f"branch_{role}"] = node.tensors.pop(role)
        node.tensors["lambdas"] = total.tensors["lambdas"]
        del node.outputs["real"]
        if gates:
            node.tensors["gates"] = gates[0].tensors["gates"]
            node.take_over(gates[0].result, "branches")
            graph.remove(gates[0])
        node.take_over(merged, "merged" if gates else "real")
        graph.remove(total)
    graph.sort()


def lower_sums_and_gates(graph: Graph) -> None:
    """Sums of bases, gates and repetitions that no operator took, as operators of their own."""
    for node in graph.of("base_sum"):
        _lower_sum(graph, node)
    for node in graph.of("gate"):
        _lower_gate(graph, node)
    for node in graph.of("repeat"):
        node.kind = "concat"
        node.inputs = node.inputs * node.attributes.pop("times")
    graph.sort()


def _lower_sum(graph: Graph, node: Node) -> None:
    bases, x = node.attributes.pop("bases"), node.inputs[0]
    own = x.channels // bases
    lambdas = node.tensors.pop("lambdas")
    if node.attributes.pop("mean"):
        node.kind = "channel_mean"
        node.attributes |= {"size": bases, "inner": own}
        return
    total = None
    for base, factor in enumerate(lambdas):
        part = graph.add(
            "slice",
            [x],
            node.name,
            at=node,
            attributes={"from": base * own, "to": (base + 1) * own},
        ).give("real", own, pixel=x.pixel)
        rows = {"scale": factor.expand(own).clone(), "bias": torch.zeros(own, dtype=torch.float64)}
        inputs = [part] if total is None else [part, total]
        total = graph.add("affine", inputs, node.name, at=node, tensors=rows).give(
            "real", own, pixel=x.pixel
        )
    assert total is not None
    graph.replace(node.result, total)
    graph.remove(node)


def _lower_gate(graph: Graph, node: Node) -> None:
    branches, merged = node.inputs
    gates = node.tensors["gates"]
    rows = gates.repeat_interleave(branches.channels // len(gates))
    zeros = torch.zeros_like(rows)
    wide = graph.add("repeat", [merged], node.name, at=node, attributes={"times": len(gates)}).give(
        "real", branches.channels, pixel=merged.pixel
    )
    rest = graph.add(
        "affine", [wide], node.name, at=node, tensors={"scale": 1 - rows, "bias": zeros}
    ).give("real", branches.channels, pixel=merged.pixel)
    node.kind = "affine"
    node.inputs = [branches, rest]
    node.tensors = {"scale": rows, "bias": zeros}
