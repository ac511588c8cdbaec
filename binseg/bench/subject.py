"""The networks that are measured: packed ones, and the full-precision twin of their topology."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from binseg.bench.options import BenchOptions
from binseg.compiler.pack import pack
from binseg.compiler.packed import PackedSegmenter
from binseg.data.label_table import LabelTable, auto_palette
from binseg.data.preprocess import Preprocessing, network_input
from binseg.data.scenes import draw_scene
from binseg.errors import BinsegError
from binseg.loaded import save
from binseg.network_options import Gates
from binseg.nn.segmenter import BackboneSegmenter, Segmenter, create_model
from binseg.program.file import OtherLayers

CALIBRATION = 4
"""Images that activations are measured on for 8 bits."""
TWIN = "fp32 twin"
"""Name of the twin's model file."""
OTHER_LAYERS: tuple[OtherLayers, ...] = get_args(OtherLayers)

_BATCHNORM_SIZE = (96, 128)
_GATES: dict[Gates, str] = {"per_branch": "", "shared": " shared gates", "none": " no gates"}
"""What a candidate's name says of them; a gate for each branch is the paper's own."""


@dataclass
class Subject:
    """What is measured.

    Attributes:
        title: what a table calls it.
        twin: the same topology in full precision, in eval mode.
        packed: name of a candidate → packed network.
        labels, preprocessing: for files.
        images: CALIBRATION images, uint8 (H, W, 3); the first one is measured.
    """

    title: str
    twin: BackboneSegmenter
    packed: dict[str, PackedSegmenter]
    labels: LabelTable
    preprocessing: Preprocessing
    images: list[np.ndarray] = field(repr=False)

    def write(self, folder: Path) -> dict[str, Path]:
        """Write all networks as model files: name → file, the twin's under `TWIN`."""
        files = {TWIN: folder / "twin.safetensors"}
        save(files[TWIN], self.twin, self.labels, self.preprocessing)
        for index, (name, packed) in enumerate(self.packed.items()):
            files[name] = folder / f"packed_{index}.safetensors"
            save(files[name], packed, self.labels, self.preprocessing)
        return files


def default_subject(options: BenchOptions) -> Subject:
    """Group-Net/ResNet-18 with the dilated FCN head at output stride 16, for each K, and its twin.

    With gates every branch carries a real map of its own through memory; without, all share one.

    The weights are random: a network's time does not depend on them.
    """
    preprocessing = Preprocessing()
    images = _images(options.size)
    arguments: dict[str, Any] = {
        "name": "groupnet18",
        "num_classes": options.classes,
        "head": "fcn",
        "output_stride": 16,
    }
    packed: dict[str, PackedSegmenter] = {}
    for bases in options.bases:
        for gates in options.gates if bases > 1 else options.gates[:1]:
            network = create_model(**arguments, bases=bases, gates=gates)
            settle(network)
            name = f"1-bit K={bases}{_GATES[gates] if bases > 1 else ''}"
            packed.update(_packed(network, name, images, preprocessing, ["int8"]))
    return Subject(
        "groupnet18, FCN head, output stride 16, random weights",
        _twin(arguments),
        packed,
        _labels(options.classes),
        preprocessing,
        images,
    )


def subject_of(
    title: str,
    model: Segmenter,
    options: BenchOptions,
    *,
    labels: LabelTable | None = None,
    preprocessing: Preprocessing | None = None,
    trained: bool = False,
) -> Subject:
    """A network and its twin, whose weights are random.

    Args:
        title: what a table calls it.
        model: a trained network, which is packed in all three ways, or a packed one.
        options: the image's size.
        labels, preprocessing: the file's, if there is one.
        trained: whether its weights and BatchNorms mean something; if not, it is changed.

    Raises:
        BinsegError: the network cannot be packed.
    """
    preprocessing = preprocessing or Preprocessing()
    images = _images(options.size)
    if isinstance(model, PackedSegmenter):
        packed = {f"1-bit, other layers {model.other_layers}": model}
    else:
        if not trained:
            settle(model)
        packed = _packed(model, "1-bit", images, preprocessing, OTHER_LAYERS)
    return Subject(
        title,
        _twin(model.architecture),
        packed,
        labels or _labels(model.num_classes),
        preprocessing,
        images,
    )


def settle(network: nn.Module) -> None:
    """Give a network that was never trained BatchNorms as training leaves them, and eval mode.

    Mean and variance are those of two images; scale and shift are random. Without it thresholds
    would all be alike and 8-bit maps would have no range.
    """
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad(), _momentum(norms, 1.0):
        network.train()
        network(torch.randn((2, 3, *_BATCHNORM_SIZE), generator=generator))
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.normal_(0.0, 0.3, generator=generator)
    network.eval()


@contextmanager
def _momentum(norms: list[nn.BatchNorm2d], value: float) -> Iterator[None]:
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = value
    yield
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def _twin(architecture: dict[str, Any]) -> BackboneSegmenter:
    twin = create_model(**{**architecture, "precision": "full"})
    if not isinstance(twin, BackboneSegmenter):
        raise BinsegError(f"{architecture['name']} has no full-precision twin to compare with")
    settle(twin)
    return twin


def _packed(
    network: Segmenter,
    name: str,
    images: list[np.ndarray],
    preprocessing: Preprocessing,
    kinds: Sequence[OtherLayers],
) -> dict[str, PackedSegmenter]:
    return {
        f"{name}, other layers {kind}": pack(
            network,
            other_layers=kind,
            calibration=_normalized(images, preprocessing),
            preprocessing=preprocessing,
        )
        for kind in kinds
    }


def _normalized(images: list[np.ndarray], preprocessing: Preprocessing) -> list[Tensor]:
    return [network_input(image, preprocessing) for image in images]


def _images(size: tuple[int, int]) -> list[np.ndarray]:
    return [draw_scene(0, index, size).image for index in range(CALIBRATION)]


def _labels(classes: int) -> LabelTable:
    names = tuple(f"class {index}" for index in range(classes))
    return LabelTable("bench", names, auto_palette(classes), {i: i for i in range(classes)})
