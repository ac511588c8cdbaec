"""One file a family of backbones, and a registry of their names."""

from binseg.nn.backbones import alexnet as alexnet
from binseg.nn.backbones import densenet as densenet
from binseg.nn.backbones import groupnet as groupnet  # importing a family registers its names
from binseg.nn.backbones import groupnet_s8 as groupnet_s8
from binseg.nn.backbones import resnet as resnet
from binseg.nn.backbones import xnornet as xnornet
from binseg.nn.backbones.registry import (
    Backbone,
    backbone_source,
    create_backbone,
    list_backbones,
)

__all__ = ["Backbone", "backbone_source", "create_backbone", "list_backbones"]
