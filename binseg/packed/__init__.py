"""Packed networks, and the one file format of all networks."""

from binseg.packed.file import LoadedModel, load, read_header, save
from binseg.packed.fold import pack
from binseg.packed.modules import PackedSegmenter

__all__ = ["LoadedModel", "PackedSegmenter", "load", "pack", "read_header", "save"]
