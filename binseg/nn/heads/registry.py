"""Names of heads, the output stride each is meant for, and how to build them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from binseg.errors import unknown_name
from binseg.nn.heads.fcn import FCNHead


@dataclass(frozen=True)
class HeadSpec:
    """How to build a head, and the backbone's output stride where none is asked for."""

    build: Callable[..., nn.Module]
    output_stride: int
    options: frozenset[str] = frozenset({"kernel_size", "dropout"})


HEADS: dict[str, HeadSpec] = {
    "fcn": HeadSpec(partial(FCNHead, skips=0), output_stride=8),
    "fcn32s": HeadSpec(partial(FCNHead, skips=0), output_stride=32),
    "fcn16s": HeadSpec(partial(FCNHead, skips=1), output_stride=32),
    "fcn8s": HeadSpec(partial(FCNHead, skips=2), output_stride=32),
}


def create_head(name: str, channels: Sequence[int], num_classes: int, **options: Any) -> nn.Module:
    """Build the head called `name` over stages with `channels`.

    Raises:
        BinsegError: an unknown name or option (with the nearest one), or a value out of range.
    """
    if name not in HEADS:
        raise unknown_name("head", name, HEADS)
    for option in options:
        if option not in HEADS[name].options:
            raise unknown_name(f"option of head {name}", option, HEADS[name].options)
    return HEADS[name].build(channels, num_classes, **options)
