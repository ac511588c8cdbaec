"""From the rewritten graph to a program."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from binseg.compiler.graph import Graph, Node
from binseg.errors import BinsegError
from binseg.program.builder import ProgramBuilder
from binseg.program.program import Program
from binseg.program.tensors import pack_bits, to_bfloat16

_DEFAULTS: dict[str, Any] = {"groups": 1, "bases": 1, "inner": 1, "shared_weight": False}
_OWN = ("exact", "bf16_weight")
"""Attributes that are the compiler's own."""


def emit(graph: Graph) -> Program:
    """The program that does what `graph` says.

    Raises:
        BinsegError: a layer is left that no pass could rewrite, or a number is not finite.
    """
    (image,), (output,) = graph.of("image"), graph.of("output")
    builder = ProgramBuilder()
    numbers = {image.result: builder.image}
    for node in graph.nodes:
        if node is image or node is output:
            continue
        roles = sorted(node.outputs)
        names = {role: _tensor(builder, node, role) for role in sorted(_tensors(node))}
        made = builder.add(
            node.kind,
            [numbers[each] for each in node.inputs],
            roles,
            tensors=names,
            **_attributes(node),
        )
        numbers.update(zip((node.outputs[role] for role in roles), made, strict=True))
    return builder.build(numbers[output.inputs[0]])


def _attributes(node: Node) -> dict[str, Any]:
    found = {
        ("from_" if name == "from" else name): value
        for name, value in node.attributes.items()
        if name not in _OWN and not (name in _DEFAULTS and value == _DEFAULTS[name])
    }
    if found.get("dilation") == [1, 1]:
        del found["dilation"]
    if "bit_bases" in found:
        own = len(found.get("dilations", ())) or found.get("bases", 1)
        fixed = node.kind == "conv_merge"
        if fixed or found["bit_bases"] == (1 if node.kind == "pack_sign" else own):
            del found["bit_bases"]
    return found


def _tensors(node: Node) -> dict[str, Tensor]:
    found = node.tensors
    if node.kind == "pack_sign" and "shift" in found and "gain" not in found:
        found["gain"] = torch.ones_like(found["shift"])
    if node.kind == "conv" and not found["bias"].any():
        del found["bias"]
    return found


def _tensor(builder: ProgramBuilder, node: Node, role: str) -> str:
    """Add a node's tensor to the program, as docs/program.md stores it."""
    value = node.tensors[role]
    name, copies = f"{node.name}.{role}", 1
    while builder.has_tensor(name):
        copies += 1
        name = f"{node.name}.{copies}.{role}"
    if value.dtype == torch.bool:
        return builder.tensor(name, pack_bits(value.contiguous().numpy()))
    if value.dtype == torch.int32:
        short = value.short()
        return builder.tensor(name, (short if torch.equal(short.int(), value) else value).numpy())
    if not value.is_floating_point():
        return builder.tensor(name, value.contiguous().numpy())
    array = value.contiguous().numpy().astype(np.float32)
    if not np.isfinite(array).all():
        raise BinsegError(f"{node.name} holds nan or inf: damaged weights or a diverged training")
    if role == "weight" and node.attributes.get("bf16_weight"):
        return builder.tensor(name, to_bfloat16(array), bfloat16=True)
    return builder.tensor(name, array)
