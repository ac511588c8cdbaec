"""Tiny models and their twins as files, for tests of the demo."""

from pathlib import Path

from trained_networks import trained

from binseg.compiler.pack import pack
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.loaded import save

CLASSES = get_label_table("scenes").num_classes


def write_tiny(
    folder: Path, *, name: str = "tiny", twin: bool = True, seed: int = 0, table: str = "scenes"
) -> Path:
    """A packed Group-Net of width 8 for a table's classes, perhaps with a twin beside it."""
    labels = get_label_table(table)
    count = labels.num_classes
    networks = {name: pack(trained(seed, num_classes=count, atrous="bpac", output_stride=16))}
    if twin:
        networks[f"{name}.twin"] = trained(seed, num_classes=count, precision="full")
    for stem, network in networks.items():
        save(folder / f"{stem}.safetensors", network, labels, Preprocessing())
    return folder / f"{name}.safetensors"
