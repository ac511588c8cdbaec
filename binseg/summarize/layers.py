"""`summary`: every layer of a network with its parameters, bytes and operations."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from binseg.compiler.packed import PackedClassifier, PackedSegmenter
from binseg.errors import BinsegError
from binseg.summarize.operations import Layers, Operation, Recorder
from binseg.summarize.programs import OperatorCost, operator_costs
from binseg.summarize.sizes import (
    own_binary_bytes,
    own_float_bytes,
    own_packed_bytes,
    own_parameters,
)

LARGEST_SIDE = 2**16
"""Pixels; PNG and JPEG files hold no more, and what is beyond is a typo."""


@dataclass(frozen=True)
class Layer:
    """A module with parameters of its own, or with products to add up.

    Attributes:
        name: in the network, e.g. "backbone.stem.0".
        kind: its class.
        output: shape of what it gives, NCHW in trained networks, NHWC in packed ones, whose layers
            are operators; empty if it was not called.
        parameters: bits of a parameter (1, 8, 16, 32) → how many.
        float_bytes, packed_bytes: see `binseg.summarize.Size`.
        binary_bytes: the part of `packed_bytes` that holds 1-bit weights.
        binary_macs: products of ±1 with ±1 that are added up, for one image.
        real_macs: all other products, of whatever number of bits.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: dict[int, int]
    float_bytes: int
    packed_bytes: int
    binary_bytes: int
    binary_macs: int
    real_macs: int

    @property
    def binary_parameters(self) -> int:
        """1-bit ones."""
        return self.parameters.get(1, 0)

    @property
    def real_parameters(self) -> int:
        """Those of more than 1 bit."""
        return sum(self.parameters.values()) - self.binary_parameters


@dataclass(frozen=True)
class Summary:
    """The layers of a network, and their sums.

    Attributes:
        layers: in the network's order.
        size: height and width of the image, in pixels.
    """

    layers: tuple[Layer, ...]
    size: tuple[int, int]

    @property
    def total(self) -> Layer:
        """All layers as one."""
        parameters: Counter[int] = Counter()
        for layer in self.layers:
            parameters.update(layer.parameters)

        def sum_of(name: str) -> int:
            return sum(getattr(layer, name) for layer in self.layers)

        return Layer(
            "total",
            "",
            (),
            dict(sorted(parameters.items())),
            sum_of("float_bytes"),
            sum_of("packed_bytes"),
            sum_of("binary_bytes"),
            sum_of("binary_macs"),
            sum_of("real_macs"),
        )

    @property
    def real_share(self) -> dict[str, float]:
        """What of the parameters, the packed bytes and the MACs is not binary, in [0, 1]."""
        total = self.total
        parts = {
            "parameters": (total.real_parameters, total.binary_parameters),
            "packed_bytes": (total.packed_bytes - total.binary_bytes, total.binary_bytes),
            "macs": (total.real_macs, total.binary_macs),
        }
        return {name: real / max(1, real + binary) for name, (real, binary) in parts.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "image": list(self.size),
            "layers": [asdict(layer) for layer in self.layers],
            "total": asdict(self.total),
            "real_share": self.real_share,
        }


def summary(model: nn.Module, size: tuple[int, int] = (480, 640)) -> Summary:
    """Count the parameters, bytes and operations of each layer.

    Nothing is computed: an image without values runs through the network.

    Args:
        model: a trained or a packed network; it stays as it is.
        size: height and width of the image, in pixels.

    Raises:
        BinsegError: the image is empty, too large, or too small for the network.
    """
    if not 1 <= min(size) <= max(size) <= LARGEST_SIDE:
        raise BinsegError(
            f"an image has 1 to {LARGEST_SIDE} pixels a side, not {size[0]} × {size[1]}"
        )
    if isinstance(model, PackedSegmenter | PackedClassifier):
        return Summary(tuple(_of_operator(c) for c in operator_costs(model.program, size)), size)
    outputs, operations = _traced(model, size)
    macs: Counter[tuple[str, bool]] = Counter()
    for operation in operations:
        macs[operation.layer, operation.binary] += operation.macs
        if operation.macs:
            # packed layers are not always entered through their forward
            outputs.setdefault(operation.layer, operation.output)
    layers = []
    for name, module in model.named_modules():
        parameters = own_parameters(module)
        binary_macs, real_macs = macs[name, True], macs[name, False]
        if not parameters and not binary_macs and not real_macs:
            continue
        layers.append(
            Layer(
                name,
                type(module).__name__,
                outputs.get(name, ()),
                parameters,
                own_float_bytes(module),
                own_packed_bytes(module),
                own_binary_bytes(module),
                binary_macs,
                real_macs,
            )
        )
    return Summary(tuple(layers), size)


def _of_operator(cost: OperatorCost) -> Layer:
    return Layer(
        cost.name,
        cost.kind,
        cost.output,
        cost.parameters,
        4 * sum(cost.parameters.values()),
        cost.bytes,
        cost.binary_bytes,
        cost.macs if cost.binary else 0,
        0 if cost.binary else cost.macs,
    )


def _traced(
    model: nn.Module, size: tuple[int, int]
) -> tuple[dict[str, tuple[int, ...]], list[Operation]]:
    """Output shapes of the modules called, and the operators run, for one image."""
    tensors: dict[str, Tensor] = {
        name: tensor.detach().to("meta")
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    layers = Layers(model, tensors)
    recorder = Recorder(layers)
    image = torch.empty((1, 3, *size), device="meta")
    with evaluating(model), torch.no_grad(), layers.watched():
        try:
            with recorder:
                functional_call(model, tensors, (image,))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise BinsegError(
                f"an image of {size[0]} × {size[1]} does not go through the network ({reason}); "
                "try a larger one"
            ) from error
    return layers.outputs, recorder.operations


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the `with`, and each module's own mode after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
