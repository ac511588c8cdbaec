"""`pretrain`: one classifier from its configuration to a run folder."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.progress import Progress
from torch import nn

from binseg.data.classification import ClassificationData
from binseg.distributed.processes import joined
from binseg.errors import BinsegError
from binseg.loaded import load, read_header
from binseg.nn.backbone_file import load_classifier, start_backbone
from binseg.nn.classifier import Classifier, create_classifier
from binseg.nn.float_file import load_tensors
from binseg.nn.segmenter import SmpSegmenter
from binseg.shipped import resolve
from binseg.training.checkpoints import BEST
from binseg.training.classes import ClassTable
from binseg.training.classification_module import ClassificationModule
from binseg.training.fitting import check_teacher_images, fit, prepare_process
from binseg.training.pretraining_config import Pretraining, classifier_arguments
from binseg.training.run_folder import opened_run


@dataclass(frozen=True)
class PretrainingResult:
    """How a pretraining ended.

    Attributes:
        folder: of the run.
        model: path of the best classifier's file, which starts a segmentation backbone.
        best_top1: its share of val images whose class is right.
        best_epoch: its epoch, from 1.
    """

    folder: Path
    model: Path
    best_top1: float
    best_epoch: int


def pretrain(
    pretraining: Pretraining,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    callbacks: Iterable[Callback] = (),
    logger: Logger | Iterable[Logger] | None = None,
) -> PretrainingResult:
    """Train one classifier and leave everything about it in the folder `out`.

    The folder is that of `binseg.training.run.train`, without overlays; `best.safetensors` is a
    classifier file.

    Args:
        pretraining: the configuration.
        out: new or empty, unless `resume`.
        resume: go on from `last.ckpt`, or begin if the run did not get that far.
        callbacks, logger: as those of `binseg.training.run.train`; the scores are val_top1 and
            val_top5.

    Raises:
        BinsegError: bad data or settings, an existing run without `resume`, no space left.
        StopRequestedError: Ctrl-C or SIGTERM; the message says how to go on.
    """
    folder = Path(out)
    with (
        joined(pretraining.trainer.devices) as processes,
        opened_run(folder, pretraining, resume=resume, processes=processes) as start,
    ):
        prepare_process(pretraining.trainer)
        data = ClassificationData(
            pretraining.data, _DecodingBar(), run_seed=pretraining.trainer.seed
        )
        table: ClassTable = {"names": list(data.classes)}
        processes.agree("data", {"classes": table, "training images": data._train_length()})
        start.notes.extend(data.left_out())
        module = ClassificationModule(
            _network(pretraining, data, from_checkpoint=start.checkpoint is not None),
            pretraining,
            data.classes,
            data.preprocessing,
            teacher=_teacher(pretraining, data),
        )
        best = fit(
            module,
            data,
            folder,
            start,
            processes,
            classes=table,
            command="pretrain",
            callbacks=callbacks,
            logger=logger,
        )
        return PretrainingResult(folder, folder / BEST, best.best, best.best_epoch)


class _DecodingBar:
    """Shows how far the images of a split are decoded, if anybody looks."""

    def __init__(self) -> None:
        self._console = Console()
        self._progress: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        if not self._console.is_terminal:
            return
        if self._progress is None:
            self._progress = Progress(console=self._console, transient=True)
            self._progress.start()
            self._progress.add_task("decoding images", total=total)
        self._progress.update(self._progress.task_ids[0], completed=done)
        if done == total:
            self._progress.stop()
            self._progress = None


def _network(
    pretraining: Pretraining, data: ClassificationData, *, from_checkpoint: bool
) -> Classifier:
    model = pretraining.model
    network = create_classifier(**classifier_arguments(model, len(data.classes)))
    if not from_checkpoint:
        if model.start is not None:
            start = resolve(model.start)
            loaded = load_classifier(start)
            _check_classes(loaded.classes, data, start)
            load_tensors(network, loaded.model.state_dict(), source=start)
        if model.backbone_weights is not None:
            seed = pretraining.trainer.seed
            start_backbone(network, model.backbone_weights, data.preprocessing, seed=seed)
    return network.to(memory_format=torch.channels_last)


def _teacher(pretraining: Pretraining, data: ClassificationData) -> nn.Module | None:
    """A classifier whose scores are learnt, or an encoder whose last map is."""
    distillation = pretraining.distillation
    path = distillation.teacher
    if path is None:
        return None
    if read_header(path)["kind"] == "classifier":
        if distillation.sees == "pictures":
            raise BinsegError(
                f"{path}: a classifier teaches crops only; set distillation.sees to crops"
            )
        classifier = load_classifier(path)
        _check_classes(classifier.classes, data, path)
        check_teacher_images(path, data.preprocessing, classifier.preprocessing)
        return classifier.model
    loaded = load(path)
    if not isinstance(loaded.model, SmpSegmenter):
        raise BinsegError(
            f"{path}: neither a classifier nor a network of segmentation-models-pytorch, whose "
            "encoder could teach"
        )
    if pretraining.loss.mixup:
        raise BinsegError("an encoder teaches single images: set loss.mixup to 0")
    check_teacher_images(path, data.preprocessing, loaded.preprocessing)
    return cast(nn.Module, loaded.model.network.encoder)


def _check_classes(theirs: list[str], data: ClassificationData, path: Path) -> None:
    if theirs != data.classes:
        raise BinsegError(f"{path}: trained on other classes than those of {data.config.root}")
