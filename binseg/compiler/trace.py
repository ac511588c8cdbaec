"""From a trained network to the calls of its layers, by `torch.fx`."""

from typing import Any

from torch import fx, nn

from binseg.errors import BinsegError
from binseg.nn.activations import BinaryActivation, RPReLU
from binseg.nn.bases import BaseSum, gate_branches, join_branches, merge_bases, part_branches
from binseg.nn.heads.fcn import resize_logits
from binseg.nn.layers import BinaryConv2d, ScalingMap
from binseg.nn.shapes import check_sides, crop_to, flatten_pixels, mean_of_neighbours
from binseg.nn.smp_grids import padded

LEAF_LAYERS = (BinaryConv2d, BinaryActivation, BaseSum, RPReLU, ScalingMap, nn.BatchNorm2d)
"""Layers that are looked at as a whole, besides those of torch."""

LEAF_FUNCTIONS = (
    check_sides,
    crop_to,
    flatten_pixels,
    gate_branches,
    join_branches,
    mean_of_neighbours,
    merge_bases,
    padded,
    part_branches,
    resize_logits,
)
"""Functions that are looked at as a whole: they depend on sizes, or are one operator."""


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__(autowrap_functions=LEAF_FUNCTIONS)
        self.names: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAF_LAYERS) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.names.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.names.pop()
        return result


def trace(model: nn.Module) -> fx.Graph:
    """The calls of the layers of `model`, which must be in eval mode; nothing is computed.

    Raises:
        BinsegError: the code of a layer depends on its input's values or sizes; the message names
            the layer.
    """
    tracer = _Tracer()
    try:
        return tracer.trace(model)
    except BinsegError:
        raise
    except Exception as error:  # whatever the code of a foreign layer raises
        where = tracer.names[-1] if tracer.names else ""
        layer = model.get_submodule(where) if where else model
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BinsegError(
            f"{where or 'the network'} ({type(layer).__name__}) cannot be packed: its code depends "
            f"on values or sizes that a packed network does not know ({reason})"
        ) from error
