"""Small full-precision networks that others published, to compare binary ones with.

They are trained by the same recipes and are exported to 8 bits like the twins of binary networks.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from binseg.nn.backbones.registry import Backbone
from binseg.nn.baselines.fast_scnn import FastSCNNBackbone, FastSCNNHead
from binseg.nn.baselines.lraspp import MobileNetV3Small, lraspp_head
from binseg.nn.baselines.stdc import STDC1Backbone, STDCHead

__all__ = ["BASELINES", "Baseline"]


class Baseline(NamedTuple):
    """How to build a network, from its number of classes, and where it comes from."""

    backbone: Callable[[], Backbone]
    head: Callable[[int], nn.Module]
    source: str


BASELINES = {
    "fast_scnn": Baseline(FastSCNNBackbone, FastSCNNHead, "Poudel et al. 2019, Fast-SCNN"),
    "lraspp_mobilenet_v3_small": Baseline(
        MobileNetV3Small, lraspp_head, "Howard et al. 2019, LR-ASPP on MobileNetV3-Small"
    ),
    "stdc1": Baseline(STDC1Backbone, STDCHead, "Fan et al. 2021, STDC1-Seg"),
}
