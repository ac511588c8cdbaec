"""How fast images are loaded for training and scored without a network, and where time goes."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import torch

from binseg.bench.idle import Watch, check_idle
from binseg.bench.machine import describe
from binseg.bench.timing import measure, threads
from binseg.data.augment import train_transform
from binseg.data.augment_config import AugmentConfig
from binseg.data.config import DataConfig
from binseg.data.imageio import read_image
from binseg.data.labels import IGNORE
from binseg.data.loader import collate
from binseg.data.module import SegmentationData
from binseg.data.prepared_dataset import PreparedDataset, evenly_spaced
from binseg.data.samples import Sample
from binseg.errors import BinsegError
from binseg.evaluation.boundary import BoundaryIoU
from binseg.evaluation.scores import confusion

FORMAT = 1
_PREFETCHED = 2  # batches that torch's loader has under way for each worker
_STILL = AugmentConfig(scale_min=1, scale_max=1, flip=0, brightness=0, contrast=0, saturation=0)


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """What is measured, and how long.

    Attributes:
        workers: numbers of loader processes; each is measured by itself.
        batches: training batches that a figure is taken from.
        images: that the parts are timed on, spread over the split.
        rounds: times that the parts are timed in turn.
        seconds: that a part runs in a round, at least.
        force: measure although other processes are at work.

    Raises:
        BinsegError: a number out of range.
    """

    workers: tuple[int, ...] = (0, 1, 2)
    batches: int = 24
    images: int = 16
    rounds: int = 3
    seconds: float = 0.15
    force: bool = False

    def __post_init__(self) -> None:
        for name, values, low, high in (
            ("workers", self.workers, 0, 1024),
            ("batches", (self.batches,), 1, 10**6),
            ("images", (self.images,), 1, 10**6),
            ("rounds", (self.rounds,), 1, 1000),
        ):
            for value in values:
                if not low <= value <= high:
                    raise BinsegError(f"{name} must lie in {low} to {high}, not {value}")


def run_loader_bench(
    config: DataConfig,
    options: LoaderOptions,
    on_progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Time the loader and its parts.

    Args:
        config: the data of a training.
        options: see there.
        on_progress: receives what is being measured.

    Returns:
        JSON values: what it ran on; "loader": a row for each number of workers, without the cache
        and, if the training would use it, with it filled; "training" and "scoring": seconds an
        image of each part, on one thread. Scoring's parts are without a network.

    Raises:
        BinsegError: the machine is busy, or the data is faulty.
    """
    before = check_idle(force=options.force)
    watch = Watch()
    result: dict[str, Any] = {
        "format": FORMAT,
        **describe(),
        "data": asdict(config),
        "options": asdict(options),
        "load_before": before.to_dict(),
    }
    with threads(1):
        result["training"] = _training_parts(config, options, on_progress)
        result["scoring"] = _scoring_parts(config, options, on_progress)
    uses_cache = SegmentationData(config).train_set.cache is not None
    result["loader"] = [
        {"workers": workers, "cache": cache, "pictures_per_second": speed}
        for cache in ([False, True] if uses_cache else [False])
        for workers, speed in _loaders(replace(config, cache=cache), options, on_progress)
    ]
    result["load_during"] = watch.load().to_dict()
    return result


def _loaders(
    config: DataConfig, options: LoaderOptions, on_progress: Callable[[str], None]
) -> list[tuple[int, float]]:
    """(workers, images a second) of the training loader for each number of workers."""
    train_set = SegmentationData(config).train_set
    if train_set.cache is not None:
        for index in range(len(train_set)):
            on_progress(f"filling the cache, {index + 1} of {len(train_set)}")
            train_set[index]
    speeds = []
    for workers in options.workers:
        cached = "cached" if config.cache else "from files"
        on_progress(f"loader, {workers} workers, {cached}")
        data = SegmentationData(replace(config, workers=workers))
        data.train_set = train_set
        speeds.append((workers, _speed(data, options.batches)))
    return speeds


def _speed(data: SegmentationData, batches: int) -> float:
    """Images a second over `batches` batches, epoch after epoch."""
    loader = data.train_dataloader()
    stream = chain.from_iterable(repeat(loader))
    # what was begun while the workers started would flatter them
    for _ in islice(stream, max(1, _PREFETCHED * data.config.workers)):
        pass
    began = time.perf_counter()
    images = sum(len(batch["name"]) for batch in islice(stream, batches))
    return images / (time.perf_counter() - began)


def _training_parts(
    config: DataConfig, options: LoaderOptions, on_progress: Callable[[str], None]
) -> dict[str, float]:
    data = SegmentationData(replace(config, workers=0, cache=False))
    chosen = evenly_spaced(len(data.train_set), options.images)
    whole = [data.train_set[index] for index in chosen]

    def changed(augment: AugmentConfig, samples: list[Sample]) -> list[Sample]:
        transform = train_transform(augment, config.crop, data.preprocessing.mean)
        return [
            Sample(*transform(image, labels, (0, 0, number)), name)
            for number, (image, labels, name) in enumerate(samples)
        ]

    given = config.augment
    scaled = replace(_STILL, scale_min=given.scale_min, scale_max=given.scale_max)
    crops = changed(scaled, whole)
    parts: dict[str, Callable[[], object]] = _reading_parts(data.train_set, chosen)
    if config.short_side is not None:
        originals = [data.train_set.dataset[index].image for index in chosen]
        parts["resize image"] = lambda: [data.preprocessing.resize(each) for each in originals]
    parts["scale and crop"] = lambda: changed(scaled, whole)
    if given.flip:
        parts["flip"] = lambda: changed(replace(_STILL, flip=given.flip), crops)
    strengths = {name: getattr(given, name) for name in ("brightness", "contrast", "saturation")}
    if any(strengths.values()):
        parts["colour jitter"] = lambda: changed(replace(_STILL, **strengths), crops)
    rare = {name: getattr(given, name) for name in ("hue", "gamma", "blur", "noise", "jpeg")}
    if any(rare.values()):
        parts["hue, gamma, blur, noise, JPEG"] = lambda: changed(replace(_STILL, **rare), crops)
    parts["collate"] = lambda: collate(crops)
    batch: Any = collate(crops)
    parts["normalize"] = lambda: data.preprocessing.normalize(batch["image"])
    return _per_image(parts, len(chosen), options, on_progress)


def _scoring_parts(
    config: DataConfig, options: LoaderOptions, on_progress: Callable[[str], None]
) -> dict[str, float]:
    data = SegmentationData(replace(config, workers=0, cache=False))
    chosen = evenly_spaced(len(data.val_set), options.images)
    truths = [data.val_set.labels(index) for index in chosen]
    # a prediction with errors along every contour
    predictions = [np.roll(np.where(truth == IGNORE, 0, truth), 3, axis=1) for truth in truths]
    tensors = [
        (torch.from_numpy(guess), torch.from_numpy(truth))
        for guess, truth in zip(predictions, truths, strict=True)
    ]
    classes = data.labels.num_classes
    contours = BoundaryIoU(classes)
    parts: dict[str, Callable[[], object]] = _reading_parts(data.val_set, chosen)
    parts["confusion matrix"] = lambda: [confusion(*pair, classes) for pair in tensors]

    def boundaries() -> None:
        for guess, truth in zip(predictions, truths, strict=True):
            contours.update(guess, truth)

    parts["Boundary IoU"] = boundaries
    return _per_image(parts, len(chosen), options, on_progress)


def _reading_parts(prepared: PreparedDataset, chosen: list[int]) -> dict[str, Callable[[], object]]:
    """Reading of files; drawing where there are none."""
    dataset = prepared.dataset
    paths = [dataset.sample_paths(index) for index in chosen]
    images = [pair[0] for pair in paths if pair is not None]
    if not images:
        return {"draw": lambda: [dataset[index] for index in chosen]}
    return {
        "read image": lambda: [read_image(path) for path in images],
        "read mask, train ids": lambda: [dataset.read_labels(index) for index in chosen],
    }


def _per_image(
    parts: dict[str, Callable[[], object]],
    images: int,
    options: LoaderOptions,
    on_progress: Callable[[str], None],
) -> dict[str, float]:
    """Part → seconds an image."""
    found = measure(parts, rounds=options.rounds, seconds=options.seconds, on_progress=on_progress)
    return {name: timing.seconds / images for name, timing in found.items()}
