"""BatchNorms in the weights of real convolutions."""

from binseg.compiler.graph import Graph, Node


def fold_norms_after(graph: Graph) -> None:
    """convolution → BatchNorm as one convolution."""
    for conv in graph.of("conv"):
        norm = graph.only_user(conv.result, "affine")
        if norm is None or len(norm.inputs) > 1 or len(conv.inputs) > 1 or "act" in conv.attributes:
            continue
        gain, shift = norm.tensors["scale"], norm.tensors["bias"]
        if len(gain) != len(conv.tensors["bias"]):
            continue
        if "scale" in conv.tensors:  # weights of 1 bit
            conv.tensors["scale"] = conv.tensors["scale"] * gain
        else:
            conv.tensors["weight"] = conv.tensors["weight"] * gain.view(-1, 1, 1, 1)
        conv.tensors["bias"] = conv.tensors["bias"] * gain + shift
        conv.take_over(norm.result, "real")
        graph.remove(norm)


def fold_norms_before(graph: Graph, keeps_float: set[Node]) -> None:
    """BatchNorm → convolutions without a border as convolutions.

    Args:
        keeps_float: convolutions whose inputs may change, as nobody calibrated a range for them.
    """
    for norm in graph.of("affine"):
        users = graph.users(norm.result)
        if len(norm.inputs) > 1 or not users:
            continue
        if not all(user in keeps_float and _folds_before(user, norm) for user in users):
            continue
        gain, shift = norm.tensors["scale"], norm.tensors["bias"]
        for conv in users:
            weight = conv.tensors["weight"]
            conv.tensors["bias"] = conv.tensors["bias"] + (weight * shift).sum(dim=(1, 2, 3))
            conv.tensors["weight"] = weight * gain
            conv.inputs = [norm.inputs[0] if each is norm.result else each for each in conv.inputs]
        graph.remove(norm)


def _folds_before(conv: Node, norm: Node) -> bool:
    """Exactly only without a border: zeros of a normalised map are no zeros of the map."""
    return (
        conv.kind == "conv"
        and conv.inputs.index(norm.result) == 0
        and norm.result not in conv.inputs[1:]
        and not any(conv.attributes["pads"])
        and conv.attributes["groups"] == 1
        and "scale" not in conv.tensors
        and conv.tensors["weight"].shape[3] == len(norm.tensors["scale"])
    )
