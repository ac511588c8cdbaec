"""What each side takes on the disk: real files, written as a user would."""

from pathlib import Path
from typing import Any

import torch

from binseg.bench.contest import Contest
from binseg.loaded import save

TWIN = "fp32 twin"


def write_files(contest: Contest, folder: Path, onnx: dict[str, Path]) -> dict[str, Path]:
    """Side → file, the twin's first; packed networks under the names that `contest` has for them.

    Args:
        contest: the networks.
        folder: to write into.
        onnx: files that are there already.
    """
    labels, preprocessing = contest.labels, contest.preprocessing
    files = {TWIN: folder / "twin.safetensors", "bf16 twin": folder / "twin_bf16.safetensors"}
    save(files[TWIN], contest.twin, labels, preprocessing)
    save(files["bf16 twin"], contest.twin, labels, preprocessing, dtype=torch.bfloat16)
    if "int8 ONNX Runtime" in onnx:
        files["int8 ONNX"] = onnx["int8 ONNX Runtime"]
    for index, (name, packed) in enumerate(contest.packed.items()):
        files[name] = folder / f"packed_{index}.safetensors"
        save(files[name], packed, labels, preprocessing)
    return files


def measure_files(files: dict[str, Path]) -> dict[str, Any]:
    """Side → bytes, and how many times smaller than the twin's file it is."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    return {
        name: {"bytes": size, "times_smaller": sizes[TWIN] / size} for name, size in sizes.items()
    }
