"""Annotations of other tools, turned into a folder that binseg trains on."""

from binseg.data.importing.run import ImportReport, import_annotations

__all__ = ["ImportReport", "import_annotations"]
