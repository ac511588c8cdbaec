"""Layers that a file holds: what tensors they expect, give away and take in."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from binseg.errors import BinsegError


class Expected(NamedTuple):
    """What a tensor of a file must be."""

    shape: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]


class Stored(nn.Module):
    """A layer with constant tensors, all of them buffers.

    A new layer has sizes only: its buffers lie on the meta device until `fill` or `take` gives
    them values. In a file its tensors are the buffers themselves, unless a subclass says otherwise
    in `expected`, `give` and `take`.
    """

    def declare(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Make the buffer `name`, without values."""
        self.register_buffer(name, torch.empty(shape, dtype=dtype, device="meta"))

    def fill(self, name: str, value: Tensor) -> None:
        """Give the buffer `name` its values, rounded to its dtype.

        Raises:
            BinsegError: they are not finite.
            ValueError: they have another shape.
        """
        own = self.get_buffer(name)
        if own.shape != value.shape:
            raise ValueError(f"{name} is {tuple(own.shape)}, not {tuple(value.shape)}")
        value = value.detach().to(own.dtype, copy=True)  # never the trained tensor itself
        if value.is_floating_point() and not value.isfinite().all():
            raise BinsegError(f"{name} holds nan or inf: damaged weights or a diverged training")
        setattr(self, name, _laid_out(value))

    def expected(self) -> dict[str, Expected]:
        """The tensors of the file that are this layer's."""
        return {
            name: Expected(tuple(buffer.shape), (buffer.dtype,))
            for name, buffer in self.named_buffers(recurse=False)
        }

    def give(self) -> dict[str, Tensor]:
        """The layer's tensors as a file holds them."""
        return {
            name: buffer.cpu().contiguous() for name, buffer in self.named_buffers(recurse=False)
        }

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `give`; the tensors are as `expected` says.

        Raises:
            BinsegError: a value is out of range.
        """
        for name, tensor in tensors.items():
            self.fill(name, tensor)


def stored_layers(model: nn.Module) -> Iterator[tuple[str, Stored]]:
    """The layers of `model` that a file holds, with what their tensors' names begin with."""
    for name, module in model.named_modules():
        if isinstance(module, Stored):
            yield f"{name}." if name else "", module


def _laid_out(value: Tensor) -> Tensor:
    """Convolution kernels the way the channels_last convolutions of torch read them."""
    if value.ndim == 4 and value.is_floating_point():
        return value.contiguous(memory_format=torch.channels_last)
    return value.contiguous()
