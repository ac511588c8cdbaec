"""The whole of binseg in a few minutes, with no data: see `run_quickstart`."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from binseg.atomic import atomic_path
from binseg.data.augment import AugmentConfig
from binseg.data.config import DataConfig
from binseg.data.imageio import write_image
from binseg.errors import BinsegError
from binseg.nn.backbones.groupnet import Precision
from binseg.packed.file import load
from binseg.predictor import Predictor, evaluate
from binseg.summary import Size, measure_size
from binseg.training.checkpoints import BEST, StopRequestedError
from binseg.training.config import (
    Experiment,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)
from binseg.training.run import train
from binseg.visualize import comparison

if TYPE_CHECKING:
    from rich.table import Table

PICTURES = 4
"""How many val scenes are predicted into `predictions/`."""

RESULTS = "results.json"
_OWN = {"binary", "twin", "predictions", RESULTS}


@dataclass(frozen=True)
class Row:
    """One network of the quickstart's table.

    Attributes:
        name: what the table calls it.
        mean_iou: on the val scenes, by the evaluation that `binseg evaluate` runs.
        size: parameters and bytes.
        file_bytes: of its model file.
        seconds: of its training, validations included.
    """

    name: str
    mean_iou: float
    size: Size
    file_bytes: int
    seconds: float


def quickstart_experiment() -> Experiment:
    """Group-Net** with PReLU, two bases and BPAC, of half width, on the built-in scenes."""
    return Experiment(
        data=DataConfig(
            name="scenes",
            crop=(96, 128),
            scenes_size=(96, 128),
            scenes_train=800,
            scenes_val=100,
            batch_size=8,
            val_batch_size=8,
            calibration_images=200,
            augment=AugmentConfig(scale_min=0.75, scale_max=1.5),
        ),
        model=ModelConfig(
            name="groupnet18_star",
            bases=2,
            width=32,
            head="fcn8s",
            output_stride=16,
            atrous="bpac",
            downsample="real",
            nonlinearity="prelu",
        ),
        optimizer=OptimizerConfig(lr=2e-3, schedule="cosine"),
        loss=LossConfig(lovasz=1.0, region_stride=2),
        trainer=TrainerConfig(epochs=12, validate_every=6, precision=_fast_precision()),
    )


def _fast_precision() -> Literal["fp32", "bf16"]:
    """bfloat16 where the machine multiplies it, float32 elsewhere."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    # torch has no public name for this question
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if supported() else "fp32"


def run_quickstart(out: Path, say: Callable[[str], None] = print) -> list[Row]:
    """Train the 1-bit network and its full-precision twin, score both, predict, compare.

    Leaves in `out` a run folder for each network, `predictions/` of the 1-bit one with its
    overlays, and `results.json`.

    Args:
        out: new or empty folder, or that of an earlier quickstart, which is replaced.
        say: takes a line about what happens next.

    Returns:
        The 1-bit network's row and its twin's.

    Raises:
        BinsegError: `out` holds something else, or cannot be written.
    """
    _clear(out)
    experiment = quickstart_experiment()
    rows = []
    networks: list[tuple[str, Path, Precision]] = [
        ("1-bit", out / "binary", "binary"),
        ("full-precision", out / "twin", "full"),
    ]
    for name, folder, precision in networks:
        say(f"training the {name} network on {experiment.data.scenes_train} street scenes")
        own = replace(experiment, model=replace(experiment.model, precision=precision))
        started = time.monotonic()
        try:
            result = train(own, folder)
        except StopRequestedError as error:
            raise StopRequestedError("stopped; start the quickstart again") from error
        seconds = time.monotonic() - started
        loaded = load(result.model)
        scores = evaluate(loaded, experiment.data.open("val"), boundary_distance=None).scores
        size = measure_size(loaded.model)
        rows.append(Row(name, scores.mean_iou, size, result.model.stat().st_size, seconds))
    _predict(Predictor(out / "binary" / BEST), experiment.data, out / "predictions")
    with atomic_path(out / RESULTS) as temporary:
        temporary.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return rows


def _clear(out: Path) -> None:
    """Make way for a new quickstart, touching nothing that an earlier one did not write."""
    if not out.exists():
        return
    if not out.is_dir():
        raise BinsegError(f"{out}: a file; choose another --out")
    foreign = sorted(path.name for path in out.iterdir() if path.name not in _OWN)
    if foreign:
        raise BinsegError(
            f"{out}: holds {foreign[0]}, which no quickstart wrote; choose another --out"
        )
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _predict(predictor: Predictor, data: DataConfig, folder: Path) -> None:
    """Class ids, overlay and a comparison with the truth of the first val scenes."""
    scenes = data.open("val")
    for index in range(PICTURES):
        image, truth, _ = scenes[index]
        found = predictor(image)
        found.save(folder / f"scene_{index}.png")
        picture = comparison(image, truth, found.class_map, predictor.labels)
        write_image(folder / f"scene_{index}_comparison.png", picture)


def results_table(rows: list[Row]) -> "Table":
    """The rows as a rich table for a screen of 80 columns."""
    from rich.table import Table

    table = Table(
        title="built-in street scenes",
        caption="packed: computed, with 1 bit for a binary weight and 32 for the rest",
    )
    for column in ("network", "val mIoU", "params", "1-bit", "file", "packed", "training"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.mean_iou:.3f}",
            f"{row.size.parameters / 1e6:.2f} M",
            f"{row.size.binary / 1e6:.2f} M",
            f"{row.file_bytes / 1e6:.2f} MB",
            f"{row.size.packed_bytes / 1e6:.2f} MB",
            f"{row.seconds:.0f} s",
        )
    return table
