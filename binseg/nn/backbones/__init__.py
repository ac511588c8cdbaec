"""One file a family of backbones, and a registry of their names."""

from binseg.nn.backbones import groupnet as groupnet  # importing a family registers its names
from binseg.nn.backbones.registry import Backbone, create_backbone, list_backbones

__all__ = ["Backbone", "create_backbone", "list_backbones"]
