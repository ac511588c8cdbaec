"""Names of backbones and how to build them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from binseg.errors import unknown_name


class Backbone(nn.Module):
    """A network from a normalised image to one feature map for each stage.

    Attributes:
        channels: channels of each stage's map.
        strides: input pixels to one pixel of each stage's map.
        final_relu: whether a classifier puts a ReLU before its pooling.
    """

    channels: list[int]
    strides: list[int]
    final_relu: bool = False

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to a list of (N, C_i, ⌈H / s_i⌉, ⌈W / s_i⌉), finest first."""
        raise NotImplementedError


class _Builder(Protocol):
    def __call__(self, **options: Any) -> Backbone: ...


class _Entry(NamedTuple):
    builder: _Builder
    options: frozenset[str]
    dense: bool
    source: str


_BACKBONES: dict[str, _Entry] = {}


def register_backbone(
    name: str, *, options: type, dense: bool = True, source: str = ""
) -> Callable[[_Builder], _Builder]:
    """Enter a builder under `name`; the fields of the dataclass `options` are what it accepts.

    Args:
        dense: whether its maps serve segmentation; if not, it is for classifiers alone.
        source: authors, year and name, in a line.
    """

    def enter(builder: _Builder) -> _Builder:
        known = frozenset(field.name for field in dataclasses.fields(options))
        _BACKBONES[name] = _Entry(builder, known, dense, source)
        return builder

    return enter


def list_backbones(*, dense: bool = True) -> list[str]:
    """The registered names, sorted; with `dense` only those that serve segmentation."""
    return sorted(name for name, entry in _BACKBONES.items() if entry.dense or not dense)


def backbone_options(name: str) -> frozenset[str]:
    """Names of the options that the backbone called `name` takes."""
    return _BACKBONES[name].options


def backbone_source(name: str) -> str:
    """Authors, year and name of the backbone called `name`; empty if it was entered without."""
    return _BACKBONES[name].source


def create_backbone(name: str, **options: Any) -> Backbone:
    """Build the backbone called `name`.

    Raises:
        BinsegError: an unknown name or option (with the nearest one), or a value out of range.
    """
    if name not in _BACKBONES:
        raise unknown_name("model", name, _BACKBONES)
    builder, known, *_ = _BACKBONES[name]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
    return builder(**options)
