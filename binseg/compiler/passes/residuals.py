"""Sums with a shortcut, taken by the operator that makes one of the two maps."""

from binseg.compiler.graph import Graph, Node, Value

_TAKERS = ("conv_real", "conv_int8", "conv", "affine", "resize")
"""Operators with a residual, the one that should take it first."""


def take_residuals(graph: Graph) -> None:
    """operator → sum with another map, as the operator's residual."""
    for add in graph.of("add"):
        if len(add.inputs) != 2 or add.inputs[0] is add.inputs[1]:
            continue
        places = {node: place for place, node in enumerate(graph.nodes)}
        sides = [(add.inputs[0], add.inputs[1]), (add.inputs[1], add.inputs[0])]
        able = [(own, other) for own, other in sides if _can_take(graph, own, other)]
        if not able:
            continue
        # of two alike the later one: its sum is then read at once
        own, other = min(
            able, key=lambda side: (_TAKERS.index(side[0].node.kind), -places[side[0].node])
        )
        node = own.node
        node.inputs = [*node.inputs, spread_source(node, other)]
        node.take_over(add.result, "real")
        graph.remove(add)
        graph.sort()


def _can_take(graph: Graph, own: Value, other: Value) -> bool:
    node = own.node
    return (
        node.kind in _TAKERS
        and own.role == "real"
        and len(graph.users(own)) == 1
        and len(node.inputs)
        == (2 if node.kind == "resize" and "scale" not in node.attributes else 1)
        and "act" not in node.attributes
        and set(node.outputs) == {"real"}
        and own.channels == other.channels
        and own.pixel == other.pixel
    )


def spread_source(node: Node, residual: Value) -> Value:
    """What a residual repeats for each base, as operators over K bases spread it themselves."""
    bases = len(node.attributes.get("dilations", ())) or node.attributes.get("bases", 1)
    if residual.node.kind == "repeat" and residual.node.attributes["times"] == bases:
        return residual.node.inputs[0]
    return residual
