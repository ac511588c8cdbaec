"""PyTorch's exported programs (.pt2) of packed networks, over the operators `torch.ops.binseg`.

A reader needs torch, and binseg for the operators (`import binseg.program.cuda.network` registers
them), and nothing of the network's Python. The image's size is fixed, the batch is not.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from binseg.atomic import atomic_path
from binseg.compiler.packed import PackedSegmenter
from binseg.data.label_table import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.export.compare import Logits
from binseg.program.cuda import network as _registers_the_operators  # noqa: F401

ABOUT = "binseg.json"
"""Inside the file: the classes, and the size that images are resized to."""


def write_pt2(
    path: Path,
    network: PackedSegmenter,
    labels: LabelTable,
    preprocessing: Preprocessing,
    size: tuple[int, int],
) -> None:
    """Write a packed network as an exported program: uint8 (N, 3, H, W) → float32 (N, C, H, W).

    Args:
        path: ends in .pt2; written whole or not at all.
        network: normalizes by itself.
        labels, preprocessing: kept in the file, as JSON.
        size: H and W, in pixels.
    """
    example = torch.zeros(2, 3, *size, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(
        network.as_torch().eval(), (example,), dynamic_shapes={"x": {0: batch}}
    )
    about = {
        "labels": labels.to_dict(),
        "preprocessing": preprocessing.to_dict(),
        "size": list(size),
    }
    with atomic_path(path) as temporary:
        torch.export.save(program, temporary, extra_files={ABOUT: json.dumps(about)})


def read_pt2(path: Path) -> Logits:
    """The network of a file, as `compare` calls it."""
    module = torch.export.load(path).module()

    def logits(images: Sequence[np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            found = module(torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()))
        return np.asarray(found)

    return logits
