"""The whole of binseg in a few minutes, with no data: see `run_quickstart`."""

import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from binseg.atomic import atomic_path
from binseg.compiler.pack import pack
from binseg.data.augment_config import AugmentConfig
from binseg.data.config import DataConfig
from binseg.data.imageio import write_image
from binseg.data.preprocess import network_input
from binseg.data.samples import Sample
from binseg.errors import BinsegError
from binseg.evaluation.evaluate import network_predictions, score
from binseg.loaded import LoadedModel, load, save
from binseg.lock import LOCK
from binseg.nn.backbones.groupnet import Precision
from binseg.nn.segmenter import Segmenter
from binseg.predictor import Predictor
from binseg.summarize import Size, measure_size
from binseg.training.checkpoints import StopRequestedError
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

IMAGES = 4
"""How many val scenes are predicted into `predictions/`."""

RESULTS = "results.json"
PACKED = "packed.safetensors"

MIN_AGREEMENT = 0.999
"""Share of the val scenes' pixels on which the packed network must say what the trained one says.
The rest follow from numbers next to 0 that were rounded the other way; how many pixels one of them
turns depends on the network, and no rounding may stop a quickstart after minutes of training."""

_OWN = {"binary", "twin", "predictions", RESULTS}


@dataclass(frozen=True)
class Row:
    """One network of the quickstart's table.

    Attributes:
        name: what the table calls it.
        mean_iou: on the val scenes, by the evaluation that `binseg evaluate` runs.
        size: parameters and bytes.
        file_bytes: of its model file.
        milliseconds: from an image's tensor to its class map, on one thread.
        seconds: of its training, validations included; None for the packed network.
        agreement: the packed network's share of pixels with the trained one's class.
    """

    name: str
    mean_iou: float
    size: Size
    file_bytes: int
    milliseconds: float
    seconds: float | None = None
    agreement: float | None = None


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


def run_quickstart(out: Path, on_progress: Callable[[str], None] = print) -> list[Row]:
    """Train the 1-bit network and its full-precision twin, pack, score, predict, compare.

    Leaves in `out` a run folder for each network, the 1-bit one's with `packed.safetensors`,
    `predictions/` of the packed network with its overlays, and `results.json`.

    Args:
        out: new or empty folder, or that of an earlier quickstart, which is replaced.
        on_progress: takes a line about what happens next.

    Returns:
        The rows of the 1-bit network, of the same network packed, and of the twin.

    Raises:
        BinsegError: `out` holds something else, or cannot be written; the packed network's class
            maps differ from the trained one's.
    """
    _clear(out)
    experiment = quickstart_experiment()
    data = experiment.data
    models, seconds = {}, {}
    networks: list[tuple[str, Path, Precision]] = [
        ("1-bit", out / "binary", "binary"),
        ("full-precision", out / "twin", "full"),
    ]
    for name, folder, precision in networks:
        on_progress(f"training the {name} network on {data.scenes_train} street scenes")
        own = replace(experiment, model=replace(experiment.model, precision=precision))
        started = time.monotonic()
        try:
            models[name] = train(own, folder).model
        except StopRequestedError as error:
            raise StopRequestedError("stopped; start the quickstart again") from error
        seconds[name] = time.monotonic() - started
    on_progress("packing the 1-bit network and comparing all three")
    trained, twin = load(models["1-bit"]), load(models["full-precision"])
    models["1-bit, packed"] = out / "binary" / PACKED
    packed = _pack(trained, models["1-bit, packed"])
    loaded = {"1-bit": trained, "1-bit, packed": packed, "full-precision": twin}
    scored = {name: _score(each, data) for name, each in loaded.items()}
    share = _same(*(scored[name][1] for name in ("1-bit", "1-bit, packed")))
    scene = network_input(data.open("val")[0].image, trained.preprocessing)
    times = measure_milliseconds({name: each.model for name, each in loaded.items()}, scene)
    rows = [
        Row(
            name=name,
            mean_iou=scored[name][0],
            size=measure_size((trained if each is packed else each).model),
            file_bytes=models[name].stat().st_size,
            milliseconds=times[name],
            seconds=seconds.get(name),
            agreement=share if each is packed else None,
        )
        for name, each in loaded.items()
    ]
    _predict(Predictor(packed), data, out / "predictions")
    with atomic_path(out / RESULTS) as temporary:
        temporary.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return rows


def _pack(trained: LoadedModel, path: Path) -> LoadedModel:
    """Write the packed network and open it again."""
    training = trained.header["training"]
    save(
        path,
        pack(trained.model, preprocessing=trained.preprocessing),
        trained.labels,
        trained.preprocessing,
        training=training,
    )
    return load(path)


def _score(model: LoadedModel, data: DataConfig) -> tuple[float, np.ndarray]:
    """Mean IoU on the val scenes, and the class maps, uint8 (scenes, H, W)."""
    predict = network_predictions(model.model, model.preprocessing)
    maps: list[np.ndarray] = []

    def predict_and_keep(sample: Sample) -> np.ndarray:
        maps.append(predict(sample))
        return maps[-1]

    found = score(predict_and_keep, data.open("val"), boundary_distance=None)
    return found.scores.mean_iou, np.stack(maps)


def _same(trained: np.ndarray, packed: np.ndarray) -> float:
    """Share of equal pixels of two networks' class maps; raises if it is too small."""
    share = float((trained == packed).mean())
    if share < MIN_AGREEMENT:
        raise BinsegError(
            f"the packed network agrees with the trained one on only {100 * share:.3f} % of the "
            "pixels; this is a fault of binseg, please report it"
        )
    return share


def measure_milliseconds(
    models: Mapping[str, Segmenter], image: Tensor, *, rounds: int = 5, calls: int = 5
) -> dict[str, float]:
    """Time from an image's tensor to its class map, on one thread of the CPU.

    All networks take turns in each round, float ones in both memory formats of torch, so that a
    busy moment of the machine hits them alike; the minimum of the per-round medians counts, and the
    better format.

    Args:
        models: in eval mode, on the CPU; float ones are left in channels_last.
        image: float32 (1, 3, H, W).
        rounds: turns of each network.
        calls: images in a turn.

    Returns:
        Milliseconds by name.
    """
    best = dict.fromkeys(models, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(rounds):
                for name, model in models.items():
                    for layout in (torch.contiguous_format, torch.channels_last):
                        if any(True for _ in model.parameters()):  # a packed one has only buffers
                            model.to(memory_format=layout)
                        x = image.contiguous(memory_format=layout)
                        model.class_map(x)  # warms up
                        best[name] = min(best[name], _median(model, x, calls))
    finally:
        torch.set_num_threads(threads)
    return best


def _median(model: Segmenter, x: Tensor, calls: int) -> float:
    """Milliseconds of one call."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        model.class_map(x)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def _clear(out: Path) -> None:
    """Make way for a new quickstart, touching nothing that an earlier one did not write."""
    if not out.exists():
        return
    if not out.is_dir():
        raise BinsegError(f"{out}: a file; choose another --out")
    found = [path for path in out.iterdir() if path.name != LOCK]
    foreign = sorted(path.name for path in found if path.name not in _OWN)
    if foreign:
        raise BinsegError(
            f"{out}: holds {foreign[0]}, which no quickstart wrote; choose another --out"
        )
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _predict(predictor: Predictor, data: DataConfig, folder: Path) -> None:
    """Class ids, overlay and a comparison with the truth of the first val scenes."""
    scenes = data.open("val")
    for index in range(IMAGES):
        image, truth, _ = scenes[index]
        found = predictor(image)
        found.save(folder / f"scene_{index}.png")
        strip = comparison(image, truth, found.class_map, predictor.labels)
        write_image(folder / f"scene_{index}_comparison.png", strip)


def results_table(rows: list[Row]) -> "Table":
    """The rows as a rich table for a screen of 80 columns."""
    from rich.table import Table

    caption = "ms: from an image's tensor to its class map, on one thread"
    for row in rows:
        if row.agreement is not None:
            caption += f"\npacked: the same class at {100 * row.agreement:.3f} % of the pixels"
    table = Table(title="built-in street scenes", caption=caption)
    for column in ("network", "val mIoU", "params", "1-bit", "file", "ms", "training"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.mean_iou:.3f}",
            f"{row.size.parameters / 1e6:.2f} M",
            f"{row.size.binary / 1e6:.2f} M",
            f"{row.file_bytes / 1e6:.2f} MB",
            f"{row.milliseconds:.1f}",
            "" if row.seconds is None else f"{row.seconds:.0f} s",
        )
    return table
