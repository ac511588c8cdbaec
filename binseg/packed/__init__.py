"""Model files. (The 1-bit engine's packed networks will live here too.)"""

from binseg.packed.file import LoadedModel, load, read_header, save

__all__ = ["LoadedModel", "load", "read_header", "save"]
