"""From trained run folders to the rows of the table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from binseg.bench.idle import Load, Watch
from binseg.compare.config import Comparison
from binseg.compare.latency import measure_latency
from binseg.compare.rows import Outcome, Row
from binseg.compare.runs import Run
from binseg.data.config import DataConfig
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.nn.segmenter import Segmenter
from binseg.packed.agreement import network_input
from binseg.packed.file import LoadedModel, load, save
from binseg.packed.fold import pack
from binseg.packed.folding import Rest
from binseg.predictor import Predictor
from binseg.summarize import Layer, measure_size, summary
from binseg.training.config import ModelConfig

PACKED = "packed.safetensors"
_CALIBRATION = 16
"""Training pictures on which the int8 rest finds the ranges of its numbers."""


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
    shipped: Segmenter | None = None
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
        say(f"packing and scoring {run.name}, seed {run.seed}")
        trained = load(run.model)
        if run.name not in found:
            binary = measure_size(trained.model).binary > 0
            counts = summary(trained.model, comparison.latency.size).total
            found[run.name] = _Network(binary, counts)
        _take(found[run.name], run, trained, comparison.rest)
    shipped = {name: each.shipped for name, each in found.items() if each.shipped is not None}
    say(f"measuring {len(shipped)} networks in turn; leave the machine alone meanwhile")
    watch = Watch()
    timings = measure_latency(shipped, comparison.latency)
    busy = watch.load()
    milliseconds = {name: timing.seconds * 1e3 for name, timing in timings.items()}
    rows = []
    for name in comparison.networks:
        if name not in found:
            continue
        network, baseline = found[name], comparison.baseline(name)
        own, other = milliseconds.get(name), milliseconds.get(baseline or "")
        rows.append(
            Row(
                name=name,
                model=_given(comparison.networks[name].model),
                binary=network.binary,
                outcomes=tuple(network.outcomes),
                milliseconds=own,
                rounds=tuple(1e3 * each for each in timings[name].rounds) if own else (),
                baseline=baseline,
                faster=other / own if own and other else None,
                binary_parameters=network.counts.binary_parameters,
                real_parameters=network.counts.real_parameters,
                binary_macs=network.counts.binary_macs,
                real_macs=network.counts.real_macs,
                not_packed=network.not_packed,
            )
        )
    return rows, busy


def _take(network: _Network, run: Run, trained: LoadedModel, rest: Rest) -> None:
    """Enter the outcome of one run."""
    shipped: LoadedModel | None = trained
    path = run.model
    if network.binary:
        path = run.folder / PACKED
        try:
            shipped = _pack(trained, rest, run.experiment.data, path)
        except BinsegError as error:
            network.not_packed, shipped = str(error), None
        except Exception as error:  # a family that packing does not know may raise anything
            network.not_packed, shipped = f"{type(error).__name__}: {error}", None
    if network.shipped is None and shipped is not None:
        network.shipped = shipped.model
    best, epoch = run.best
    network.outcomes.append(
        Outcome(
            seed=run.seed,
            trained_miou=best,
            best_epoch=epoch,
            minutes=run.minutes,
            shipped_miou=None if shipped is None else _miou(shipped, run.experiment.data),
            bytes=None if shipped is None else path.stat().st_size,
        )
    )


def _pack(trained: LoadedModel, rest: Rest, data: DataConfig, path: Path) -> LoadedModel:
    """Write the packed network and open it again."""
    calibration = _inputs(data, trained.preprocessing) if rest == "int8" else None
    packed = pack(trained.model, rest=rest, calibration=calibration)
    training = trained.header["training"]
    save(path, packed, trained.labels, trained.preprocessing, training=training)
    return load(path)


def _inputs(data: DataConfig, preprocessing: Preprocessing) -> Iterator[Tensor]:
    pictures = data.open("train")
    count = min(_CALIBRATION, len(pictures))
    for place in range(count):
        yield network_input(pictures[place * len(pictures) // count].image, preprocessing)


def _miou(model: LoadedModel, data: DataConfig) -> float:
    """Of the val pictures, by the evaluation that `binseg evaluate` runs."""
    found = Predictor(model, device="cpu").evaluate(data.open("val"), boundary_distance=None)
    return found.scores.mean_iou


def _given(model: ModelConfig) -> dict[str, Any]:
    """What was set, as JSON values."""
    values = {each.name: getattr(model, each.name) for each in fields(model)}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in values.items()
        if value is not None
    }
