"""Removal of what the trained network's code needs and a program does not."""

import math

from binseg.compiler.graph import Graph, Node
from binseg.errors import BinsegError


def drop_final_resize(graph: Graph) -> None:
    """Scores stay on the head's grid: the class map is upsampled by another operator."""
    (output,) = graph.of("output")
    resize = output.inputs[0].node
    if resize.kind != "resize" or "scale" in resize.attributes:
        return
    plain = resize.attributes == {"mode": "bilinear"}
    if plain and resize.inputs[1].node.kind in ("image", "normalize"):
        output.inputs = [resize.inputs[0]]


def drop_parts(graph: Graph) -> None:
    """Branches that ride in the batch of the trained network lie side by side in the channels."""
    for node in graph.of("part"):
        graph.replace(node.result, node.inputs[0])
        graph.remove(node)


def size_flatten(graph: Graph) -> None:
    """Give each flattening the height and width that its reader's channels tell."""
    for node in graph.of("flatten"):
        pending, seen = [node.result], 0
        while pending and not seen:
            value = pending.pop()
            for user in graph.users(value):
                if user.kind in ("binary", "conv"):
                    seen = user.attributes.get("in_channels") or user.tensors["weight"].shape[3]
                else:
                    pending += user.outputs.values()
        side = math.isqrt(seen // node.inputs[0].channels)
        if not seen or side * side * node.inputs[0].channels != seen:
            raise BinsegError(f"{node.name} cannot be packed: its map is not square")
        node.attributes |= {"height": side, "width": side}
        pending = [node.result]
        while pending:
            value = pending.pop()
            value.channels = seen
            for user in graph.users(value):
                if user.kind not in ("binary", "conv"):
                    pending += user.outputs.values()


def pad_the_image(graph: Graph) -> None:
    """normalize → pad as pad → normalize: bytes are padded, and 8-bit layers can read them."""
    for pad in graph.of("pad"):
        normalize = pad.inputs[0].node
        if normalize.kind != "normalize":
            continue
        image = graph.add(
            "pad", normalize.inputs, pad.name, at=normalize, attributes=pad.attributes
        ).give("image", 3, kind="image")
        padded = graph.add(
            "normalize", [image], normalize.name, at=pad, tensors=normalize.tensors
        ).give("real", 3)
        graph.replace(pad.result, padded)
        graph.remove(pad)


def read_sizes_elsewhere(graph: Graph) -> None:
    """A map that is read for its size alone need not be made: another one of that size is."""
    for node in graph.of("resize", "crop"):
        if "scale" in node.attributes:
            continue
        like = node.inputs[1]
        while like.node.kind in ("normalize", "affine", "act"):
            like = like.node.inputs[0]
        node.inputs[1] = like
    for node in graph.of("resize", "crop"):
        if "scale" in node.attributes:
            continue
        like = node.inputs[1]
        if any(not _only_sizes(user, like) for user in graph.users(like)):
            continue
        others = (other for other in like.node.outputs.values() if other is not like)
        node.inputs[1] = next((other for other in others if graph.users(other)), like)


def _only_sizes(user: Node, value: object) -> bool:
    sized = user.kind in ("resize", "crop") and "scale" not in user.attributes
    return sized and all(each is not value for i, each in enumerate(user.inputs) if i != 1)
