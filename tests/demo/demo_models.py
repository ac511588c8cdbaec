"""A tiny model and its twin as files, for tests of the demo."""

from pathlib import Path

from trained_networks import trained

from binseg.compiler.pack import pack
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.loaded import save

CLASSES = get_label_table("scenes").num_classes


def write_tiny(folder: Path, *, name: str = "tiny", twin: bool = True, seed: int = 0) -> Path:
    """A packed Group-Net of width 8 for the scenes' classes, perhaps with a twin beside it."""
    networks = {name: pack(trained(seed, num_classes=CLASSES, atrous="bpac", output_stride=16))}
    if twin:
        networks[f"{name}.twin"] = trained(seed, num_classes=CLASSES, precision="full")
    for stem, network in networks.items():
        save(folder / f"{stem}.safetensors", network, get_label_table("scenes"), Preprocessing())
    return folder / f"{name}.safetensors"
