"""From trained run folders to the rows of the table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from binseg.bench.idle import Load, Watch
from binseg.bench.network import INT8, onnx_files
from binseg.bench.timing import Timing
from binseg.compare.config import Comparison
from binseg.compare.latency import Contender, Times, measure_latency
from binseg.compare.rows import Outcome, Row
from binseg.compare.runs import Run
from binseg.compiler.pack import pack
from binseg.data.config import DataConfig
from binseg.data.preprocess import network_input, resize_image
from binseg.errors import BinsegError
from binseg.evaluation.result import Evaluation
from binseg.evaluation.scores import without_nan
from binseg.loaded import LoadedModel, load, save
from binseg.nn.segmenter import BackboneSegmenter
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
        shipped: the first seed's network as it is shipped; None if it could not be packed.
        not_packed: why it could not.
    """

    binary: bool
    counts: Layer
    outcomes: list[Outcome] = field(default_factory=list)
    shipped: LoadedModel | None = None
    not_packed: str | None = None


def measure_rows(
    comparison: Comparison, runs: Sequence[Run], say: Callable[[str], None] = print
) -> tuple[list[Row], Load]:
    """Pack, score and time the networks of finished runs.

    A network that cannot be packed has neither a time nor a size; its row says why.

    Args:
        comparison: how.
        runs: finished ones; `packed.safetensors` is written into the folders of binary ones.
        say: takes a line about what happens next.

    Returns:
        A row for each network of which a run is finished, in the comparison's order, and what
        other programs did while they were timed.

    Raises:
        BinsegError: a model file is damaged, the data cannot be read, or the disk is full.
    """
    found: dict[str, _Network] = {}
    for run in runs:
        say(f"packing and scoring {run.title}")
        trained = load(run.model)
        if run.name not in found:
            binary = measure_size(trained.model).binary > 0
            seen = trained.preprocessing.target_size(*comparison.latency.size)
            counts = summary(trained.model, seen).total
            found[run.name] = _Network(binary, counts)
        _take(found[run.name], run, trained, comparison.other_layers)
    shipped = {name: each.shipped for name, each in found.items() if each.shipped is not None}
    times, busy = _times(comparison, shipped, say)
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


def _times(
    comparison: Comparison, shipped: Mapping[str, LoadedModel], say: Callable[[str], None]
) -> tuple[dict[str, Times], Load]:
    """The times of the networks as they are shipped, and what else the machine did meanwhile."""
    with TemporaryDirectory() as folder:
        contenders = {}
        for name, model in shipped.items():
            int8 = None
            if comparison.latency.int8 and isinstance(model.model, BackboneSegmenter):
                own = Path(folder) / name
                own.mkdir()
                int8 = _int8_file(model, comparison, name, own, say)
            contenders[name] = Contender(model.model, model.preprocessing, int8)
        say(f"measuring {len(contenders)} networks in turn; leave the machine alone meanwhile")
        watch = Watch()
        return measure_latency(contenders, comparison.latency), watch.load()


def _int8_file(
    model: LoadedModel,
    comparison: Comparison,
    name: str,
    folder: Path,
    say: Callable[[str], None],
) -> Path | None:
    """A full-precision network in 8 bits, its ranges from training pictures of the timed size."""
    assert isinstance(model.model, BackboneSegmenter)
    data, size = comparison.networks[name].data, comparison.latency.size
    pictures = [
        network_input(resize_image(picture, size), model.preprocessing)
        for picture in _pictures(data)
    ]
    notes: list[str] = []
    files = onnx_files(model.model, pictures, folder, notes)
    for note in notes:
        say(f"{name}: {note}")
    return files.get(INT8[0])


def _milliseconds(timing: Timing | None) -> float | None:
    return None if timing is None else timing.seconds * 1e3


def _faster(own: Times | None, other: Timing | None) -> float | None:
    return None if own is None or other is None else other.seconds / own.own.seconds


def _take(network: _Network, run: Run, trained: LoadedModel, other_layers: OtherLayers) -> None:
    """Enter the outcome of one run."""
    shipped: LoadedModel | None = trained
    path = run.model
    if network.binary:
        path = run.folder / PACKED
        try:
            shipped = _pack(trained, other_layers, run.experiment.data, path)
        except BinsegError as error:
            network.not_packed, shipped = str(error), None
        except Exception as error:  # a family that packing does not know may raise anything
            network.not_packed, shipped = f"{type(error).__name__}: {error}", None
    if network.shipped is None and shipped is not None:
        network.shipped = shipped
    best, epoch = run.best
    evaluation = None if shipped is None else _evaluate(shipped, run.experiment.data)
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
        )
    )


def _pack(
    trained: LoadedModel, other_layers: OtherLayers, data: DataConfig, path: Path
) -> LoadedModel:
    """Write the packed network and open it again."""
    calibration = None
    if other_layers == "int8":
        calibration = (network_input(each, trained.preprocessing) for each in _pictures(data))
    packed = pack(
        trained.model,
        other_layers=other_layers,
        calibration=calibration,
        preprocessing=trained.preprocessing,
    )
    training = trained.header["training"]
    save(path, packed, trained.labels, trained.preprocessing, training=training)
    return load(path)


def _pictures(data: DataConfig) -> Iterator[np.ndarray]:
    """Training pictures for the ranges of 8-bit numbers."""
    pictures = data.open("train")
    count = min(_CALIBRATION, len(pictures))
    for place in range(count):
        yield pictures[place * len(pictures) // count].image


def _evaluate(model: LoadedModel, data: DataConfig) -> Evaluation:
    """The evaluation that `binseg evaluate` runs, of the val pictures."""
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
