"""`train`: one experiment from its configuration to a run folder."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from binseg.data.module import SegmentationData
from binseg.distributed.processes import Processes, digest, joined
from binseg.evaluation.confusion import Scores
from binseg.evaluation.evaluate import check_same_classes
from binseg.loaded import load
from binseg.nn.backbone_file import start_backbone
from binseg.nn.segmenter import Segmenter, create_model
from binseg.nn.start import StartModel, begin_at
from binseg.training.checkpoints import BEST
from binseg.training.classes import ClassTable, class_table
from binseg.training.config import Experiment, LossConfig
from binseg.training.fitting import check_teacher_images, fit, prepare_process
from binseg.training.losses import (
    log_frequency_weights,
    median_frequency_weights,
    named_weights,
)
from binseg.training.module import SegmentationModule
from binseg.training.run_folder import opened_run
from binseg.training.start import in_words, with_start


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        folder: of the run.
        model: path of the best network's file.
        best_miou: its val mIoU.
        best_epoch: its epoch, from 1.
        scores: of the last validation.
    """

    folder: Path
    model: Path
    best_miou: float
    best_epoch: int
    scores: Scores | None


def train(
    experiment: Experiment,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    callbacks: Iterable[Callback] = (),
    logger: Logger | Iterable[Logger] | None = None,
) -> TrainingResult:
    """Train one network and leave everything about it in the folder `out`.

    The folder holds `config.yaml` (the resolved configuration), `train.log`, `history.json`,
    `curves.png`, `overlays/`, `last.ckpt` (to resume) and `best.safetensors` (to use).

    Args:
        experiment: the configuration.
        out: new or empty, unless `resume`.
        resume: go on from `last.ckpt`, or begin if the run did not get that far.
        callbacks: Lightning's or your own; `trainer.callback_metrics` has the figures: loss, lr,
            val_miou, val_pixel_accuracy and val_iou/CLASS.
        logger: Lightning's or your own, in place of `trainer.logger`.

    Raises:
        BinsegError: bad data or settings, an existing run without `resume`, no space left.
        StopRequestedError: Ctrl-C or SIGTERM; the message says how to go on.
    """
    folder = Path(out)
    with ExitStack() as stack:
        processes = stack.enter_context(joined(experiment.trainer.devices))
        experiment, begin = with_start(experiment, folder, resume=resume, processes=processes)
        start = stack.enter_context(
            opened_run(folder, experiment, resume=resume, processes=processes)
        )
        prepare_process(experiment.trainer)
        data = SegmentationData(experiment.data, experiment.trainer.seed)
        table = class_table(data.labels)
        network = _network(experiment, data, begin, from_checkpoint=start.checkpoint is not None)
        data.require_labels()  # reads every mask, so it comes after what is quick to refuse
        distillation = experiment.distillation
        data.check_augmentation(
            plain=distillation.teacher is not None and distillation.sees == "pictures"
        )
        if experiment.data.augment.extra is not None:
            table["pipeline"] = experiment.data.augment.extra.read_text("utf-8", "replace")
        agree_on_data(processes, data, table)
        module = SegmentationModule(
            network,
            experiment,
            data.labels,
            data.preprocessing,
            class_weights=_class_weights(experiment.loss, data),
            teacher=_teacher(experiment, data),
        )
        start.notes.append(data.in_words())
        if begin is not None:
            start.notes.append(in_words(begin, list(data.labels.names)))
        best = fit(
            module,
            data,
            folder,
            start,
            processes,
            classes=table,
            command="train",
            callbacks=callbacks,
            logger=logger,
        )
        return TrainingResult(folder, folder / BEST, best.best, best.best_epoch, module.scores)


def agree_on_data(processes: Processes, data: SegmentationData, table: ClassTable) -> None:
    """Refuse to train on images that differ from process to process.

    Raises:
        BinsegError: other classes, or other images or another order of them, than on process 0.
    """
    if processes.size < 2:
        return
    facts: dict[str, Any] = {"classes": [table["names"], table["raw_to_train"]]}
    facts["pipeline"] = table.get("pipeline")
    for split, prepared in (("training images", data.train_set), ("val images", data.val_set)):
        facts[split] = digest(prepared.name(place) for place in range(len(prepared)))
    processes.agree("data", facts)


def _network(
    experiment: Experiment,
    data: SegmentationData,
    begin: StartModel | None,
    *,
    from_checkpoint: bool,
) -> Segmenter:
    labels, model = data.labels, experiment.model
    arguments = model.arguments(labels.num_classes)
    backbone_start = model.backbone_weights
    if from_checkpoint:
        # the weights are in the checkpoint: nothing to download, no first file to need again
        arguments.pop("encoder_weights", None)
        backbone_start = None
    network = create_model(**arguments)
    if begin is not None:
        # keys of how it is trained, such as the dropout, are the configuration's
        network.load_state_dict(begin_at(begin, labels.names).state_dict())
    if backbone_start is not None:
        seed = experiment.trainer.seed
        start_backbone(network, backbone_start, data.preprocessing, seed=seed)
    return network.to(memory_format=torch.channels_last)


def _class_weights(loss: LossConfig, data: SegmentationData) -> Tensor | None:
    if loss.class_weights == "none":
        return None
    if isinstance(loss.class_weights, dict):
        return named_weights(loss.class_weights, data.labels.names)
    pixels, present = map(torch.from_numpy, data.class_frequencies())
    if loss.class_weights == "log_frequency":
        return log_frequency_weights(pixels)
    return median_frequency_weights(pixels, present)


def _teacher(experiment: Experiment, data: SegmentationData) -> nn.Module | None:
    path = experiment.distillation.teacher
    if path is None:
        return None
    loaded = load(path)
    check_same_classes(loaded.labels, data.labels, str(path), "give a teacher of these classes")
    check_teacher_images(path, data.preprocessing, loaded.preprocessing)
    return loaded.model
