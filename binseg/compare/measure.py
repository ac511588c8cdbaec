"""From trained run folders to the rows of the table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from binseg.bench.candidates import Int8Twin, int8_twin
from binseg.bench.idle import Load, Watch
from binseg.bench.timing import Timing
from binseg.compare.config import Comparison
from binseg.compare.latency import Contender, Times, measure_latency
from binseg.compare.rows import Outcome, Row
from binseg.compare.runs import Run
from binseg.compiler.pack import pack
from binseg.data.config import DataConfig
from binseg.data.preprocess import network_input
from binseg.errors import BinsegError
from binseg.evaluation.evaluate import score
from binseg.evaluation.result import Evaluation
from binseg.evaluation.scores import without_nan
from binseg.loaded import LoadedModel, load, save
from binseg.predictor import Predictor
from binseg.program.file import OtherLayers
from binseg.summarize import Layer, measure_size, summary
from binseg.training.config import ModelConfig

PACKED = "packed.safetensors"
_CALIBRATION = 16
"""Training images on which 8-bit layers find the ranges of their numbers."""


@dataclass
class _Network:
    """What is known of one network while its seeds come by.

    Attributes:
        binary: whether anything of it is 1 bit.
        counts: parameters and products of the trained network.
        outcomes: of its seeds.
        shipped: the first seed's network as it is timed: a packed file or a float network; None if
            it could not be packed.
        int8: the first seed's full-precision network in 8 bits.
        not_packed: why it could not.
    """

    binary: bool
    counts: Layer
    outcomes: list[Outcome] = field(default_factory=list)
    shipped: Path | LoadedModel | None = None
    int8: Int8Twin | None = None
    not_packed: str | None = None


def measure_rows(
    comparison: Comparison, runs: Sequence[Run], on_progress: Callable[[str], None] = print
) -> tuple[list[Row], Load]:
    """Pack, score and time the networks of finished runs.

    A network that cannot be packed has neither a time nor a size; its row says why.

    Args:
        comparison: how.
        runs: finished ones; `packed.safetensors` is written into the folders of binary ones.
        on_progress: takes a line about what happens next.

    Returns:
        A row for each network of which a run is finished, in the comparison's order, and what
        other programs did while they were timed.

    Raises:
        BinsegError: a model file is damaged, the data cannot be read, or the disk is full.
    """
    found: dict[str, _Network] = {}
    with TemporaryDirectory(prefix="binseg-compare-") as folder:
        for run in runs:
            on_progress(f"packing and scoring {run.title}")
            trained = load(run.model)
            if run.name not in found:
                binary = measure_size(trained.model).binary > 0
                seen = trained.preprocessing.target_size(*comparison.latency.size)
                counts = summary(trained.model, seen).total
                found[run.name] = _Network(binary, counts)
            _take(found[run.name], run, trained, comparison, Path(folder), on_progress)
        contenders = {
            name: Contender(each.shipped, each.int8)
            for name, each in found.items()
            if each.shipped is not None
        }
        on_progress(
            f"measuring {len(contenders)} networks in turn; leave the machine alone meanwhile"
        )
        watch = Watch()
        times = measure_latency(contenders, comparison.latency)
        busy = watch.load()
    rows = []
    for name in comparison.networks:
        if name not in found:
            continue
        network = found[name]
        # networks of smp have no `precision` that says so
        baseline = comparison.baseline(name) if network.binary else None
        own, other = times.get(name), times.get(baseline or "")
        rows.append(
            Row(
                name=name,
                model=_given(comparison.networks[name].model),
                binary=network.binary,
                outcomes=tuple(network.outcomes),
                milliseconds=_milliseconds(own.own if own else None),
                rounds=tuple(1e3 * each for each in own.own.rounds) if own else (),
                baseline=baseline,
                faster=_faster(own, other.own if other else None),
                int8_milliseconds=_milliseconds(own.int8 if own else None),
                faster_than_int8=_faster(own, other.int8 if other else None),
                binary_parameters=network.counts.binary_parameters,
                real_parameters=network.counts.real_parameters,
                binary_macs=network.counts.binary_macs,
                real_macs=network.counts.real_macs,
                not_packed=network.not_packed,
            )
        )
    return rows, busy


def _milliseconds(timing: Timing | None) -> float | None:
    return None if timing is None else timing.seconds * 1e3


def _faster(own: Times | None, other: Timing | None) -> float | None:
    return None if own is None or other is None else other.seconds / own.own.seconds


def _take(
    network: _Network,
    run: Run,
    trained: LoadedModel,
    comparison: Comparison,
    folder: Path,
    on_progress: Callable[[str], None],
) -> None:
    """Enter the outcome of one run."""
    data = run.experiment.data
    shipped: Path | LoadedModel | None = trained
    path = run.model
    if network.binary:
        shipped = path = run.folder / PACKED
        try:
            _pack(trained, comparison.other_layers, data, path)
        except BinsegError as error:
            network.not_packed, shipped = str(error), None
        except Exception as error:  # a family that packing does not know may raise anything
            network.not_packed, shipped = f"{type(error).__name__}: {error}", None
    int8_miou = None
    if not network.binary and comparison.latency.int8:
        own = folder / f"{run.name}_{run.fold}_{run.seed}"
        own.mkdir()
        int8 = _int8(trained, data, own)
        for note in int8.notes:
            on_progress(f"{run.name}: {note}")
        network.int8 = network.int8 or int8
        int8_miou = _int8_miou(int8, data)
    if network.shipped is None and shipped is not None:
        network.shipped = shipped
    best, epoch = run.best
    evaluation = None if shipped is None else _evaluate(shipped, data)
    network.outcomes.append(
        Outcome(
            seed=run.seed,
            fold=run.fold,
            trained_miou=best,
            best_epoch=epoch,
            minutes=run.minutes,
            shipped_miou=None if evaluation is None else evaluation.scores.mean_iou,
            bytes=None if shipped is None else path.stat().st_size,
            class_iou={} if evaluation is None else _class_iou(evaluation),
            counts=None if evaluation is None else evaluation.counts,
            int8_miou=int8_miou,
        )
    )


def _int8(trained: LoadedModel, data: DataConfig, folder: Path) -> Int8Twin:
    """A full-precision network in 8 bits, for the faster runtime that is installed."""
    return int8_twin(
        trained.model,
        trained.labels,
        trained.preprocessing,
        _images(data),
        folder,
        all_runtimes=False,
    )


def _int8_miou(int8: Int8Twin, data: DataConfig) -> float | None:
    candidates = list(int8.candidates(threads=1).values())
    if not candidates:
        return None
    run = candidates[0].segment
    found = score(
        lambda sample: run(sample.image, sample.labels.shape),
        data.open("val"),
        boundary_distance=None,
    )
    return found.scores.mean_iou


def _pack(trained: LoadedModel, other_layers: OtherLayers, data: DataConfig, path: Path) -> None:
    """Write the packed network."""
    calibration = None
    if other_layers == "int8":
        calibration = (network_input(each, trained.preprocessing) for each in _images(data))
    packed = pack(
        trained.model,
        other_layers=other_layers,
        calibration=calibration,
        preprocessing=trained.preprocessing,
    )
    training = trained.header["training"]
    save(path, packed, trained.labels, trained.preprocessing, training=training)


def _images(data: DataConfig) -> Iterator[np.ndarray]:
    """Training images for the ranges of 8-bit numbers."""
    images = data.open("train")
    count = min(_CALIBRATION, len(images))
    for place in range(count):
        yield images[place * len(images) // count].image


def _evaluate(model: Path | LoadedModel, data: DataConfig) -> Evaluation:
    """The evaluation that `binseg evaluate` runs, of the val images."""
    return Predictor(model, device="cpu").evaluate(data.open("val"), boundary_distance=None)


def _class_iou(evaluation: Evaluation) -> dict[str, float | None]:
    iou = zip(evaluation.labels.names, evaluation.scores.iou, strict=True)
    found: dict[str, float | None] = without_nan(dict(iou))
    return found


def _given(model: ModelConfig) -> dict[str, Any]:
    """What was set, as JSON values."""
    values = {each.name: getattr(model, each.name) for each in fields(model)}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in values.items()
        if value is not None
    }
