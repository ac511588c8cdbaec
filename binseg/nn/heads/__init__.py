"""Heads: from a backbone's feature maps to class scores, and a registry of their names."""

from binseg.nn.heads.deeplabv3 import DeepLabV3Head
from binseg.nn.heads.fcn import FCNHead, resize_logits
from binseg.nn.heads.registry import HEADS, HeadSpec, create_head
from binseg.nn.heads.unet import UNetHead

__all__ = [
    "HEADS",
    "DeepLabV3Head",
    "FCNHead",
    "HeadSpec",
    "UNetHead",
    "create_head",
    "resize_logits",
]
