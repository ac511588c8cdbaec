"""`train`: one experiment from its configuration to a run folder."""

import dataclasses
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn

from binseg.atomic import atomic_path
from binseg.data.labels import LabelTable
from binseg.data.module import SegmentationData
from binseg.errors import BinsegError
from binseg.evaluation.confusion import Scores
from binseg.evaluation.evaluate import check_same_classes
from binseg.nn.segmenter import Segmenter, create_model
from binseg.packed import file
from binseg.training.checkpoints import (
    BEST,
    LAST,
    AtomicCheckpointIO,
    Checkpoints,
)
from binseg.training.config import Experiment
from binseg.training.losses import median_frequency_weights
from binseg.training.module import SegmentationModule
from binseg.training.reporting import Reporter

CONFIG = "config.yaml"


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


def train(experiment: Experiment, folder: Path, *, resume: bool = False) -> TrainingResult:
    """Train one network and leave everything about it in `folder`.

    The folder holds `config.yaml` (the resolved configuration), `train.log`, `history.json`,
    `curves.png`, `overlays/`, `last.ckpt` (to resume) and `best.safetensors` (to use).

    Args:
        experiment: the configuration.
        folder: new or empty, unless `resume`.
        resume: go on from `last.ckpt`, if the run got that far.

    Raises:
        BinsegError: bad data or settings, an existing run without `resume`, no space left.
        StopRequestedError: Ctrl-C or SIGTERM; `last.ckpt` is written.
    """
    _quieten()
    config = experiment.trainer
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    checkpoint = _prepare_folder(experiment, folder, resume)
    L.seed_everything(config.seed, verbose=False)

    data = SegmentationData(experiment.data)
    network = create_model(**experiment.model.arguments(data.labels.num_classes))
    if experiment.model.weights is not None:
        _start_from(network, data.labels, experiment.model.weights)
    network.to(memory_format=torch.channels_last)
    if config.compile:
        network.compile()
    weights = None
    if experiment.loss.class_weights == "median_frequency":
        frequencies = data.class_frequencies()
        weights = median_frequency_weights(
            torch.from_numpy(frequencies.pixels), torch.from_numpy(frequencies.present_pixels)
        )
    module = SegmentationModule(
        network,
        experiment,
        data.labels,
        data.preprocessing,
        class_weights=weights,
        teacher=_teacher(experiment, data),
    )
    checkpoints = Checkpoints(folder, config.checkpoint_minutes)
    reporter = Reporter(folder, config.overlays)
    trainer = _create_trainer(
        experiment, folder, [reporter, checkpoints, _LastValidation(config.validate_every)]
    )
    try:
        with checkpoints.stopping_on_signals():
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except torch.OutOfMemoryError as error:
        raise BinsegError(
            "the GPU's memory is full; lower data.batch_size or data.crop, or set "
            "trainer.precision=bf16"
        ) from error
    return TrainingResult(
        folder, folder / BEST, checkpoints.best, checkpoints.best_epoch, module.scores
    )


class _LastValidation(L.Callback):
    """Validates at the end of each binarization step too, whatever the interval."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        assert isinstance(pl_module, SegmentationModule)
        ends = {step.end for step in pl_module.steps}
        last = trainer.current_epoch + 1 in ends
        trainer.check_val_every_n_epoch = 1 if last else self.every


def _create_trainer(experiment: Experiment, folder: Path, callbacks: list[L.Callback]) -> L.Trainer:
    config = experiment.trainer
    # under torchrun the number of processes is its business
    local = int(os.environ.get("LOCAL_WORLD_SIZE", config.devices))
    nodes = int(os.environ.get("WORLD_SIZE", local)) // local
    strategy: str | Strategy = DDPStrategy() if local * nodes > 1 else "auto"
    try:
        return L.Trainer(
            default_root_dir=folder,
            accelerator=config.accelerator,
            devices=local,
            num_nodes=nodes,
            strategy=strategy,
            precision="bf16-mixed" if config.precision == "bf16" else "32-true",
            max_epochs=config.epochs,
            accumulate_grad_batches=config.accumulate,
            gradient_clip_val=experiment.optimizer.clip_gradient,
            check_val_every_n_epoch=config.validate_every,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
        )
    except Exception as error:
        # lightning's own exceptions for a missing GPU or an impossible number of devices
        if type(error).__name__ != "MisconfigurationException":
            raise
        raise BinsegError(f"trainer settings do not fit this machine: {error}") from error


def _prepare_folder(experiment: Experiment, folder: Path, resume: bool) -> Path | None:
    """Write the configuration; returns the checkpoint to go on from, if any."""
    checkpoint = folder / LAST
    resolved = to_plain(experiment)
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0:
        existing = folder / CONFIG
        if existing.exists() and not resume:
            raise BinsegError(
                f"{folder}: holds a run already; go on with it by --resume, or choose another --out"
            )
        if existing.exists():
            _check_same_experiment(yaml.safe_load(existing.read_text()), resolved, existing)
        with atomic_path(existing) as temporary:
            temporary.write_text(yaml.safe_dump(resolved, sort_keys=False))
    return checkpoint if resume and checkpoint.exists() else None


def _check_same_experiment(before: Any, now: dict[str, Any], path: Path) -> None:
    """Refuse to resume with another network or data set; warn of other differences."""
    old, new = _flat(before), _flat(now)
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    grave = [key for key in changed if key.startswith("model.") or key == "data.name"]
    if grave:
        raise BinsegError(
            f"{path}: {', '.join(grave)} cannot change when a run is resumed; choose another --out"
        )
    if changed:
        warnings.warn(f"resuming with other values of {', '.join(changed)}", stacklevel=2)


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {k: v for key, sub in tree.items() for k, v in _flat(sub, f"{prefix}{key}.").items()}


def to_plain(experiment: Experiment) -> dict[str, Any]:
    """The configuration as YAML values; paths become text and tuples lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return cast(dict[str, Any], plain(dataclasses.asdict(experiment)))


def _start_from(network: Segmenter, labels: LabelTable, path: Path) -> None:
    loaded = file.load(path)
    check_same_classes(loaded.labels, labels, str(path))
    file.load_tensors(network, loaded.model.state_dict(), source=path)


def _teacher(experiment: Experiment, data: SegmentationData) -> nn.Module | None:
    path = experiment.distillation.teacher
    if path is None:
        return None
    loaded = file.load(path)
    check_same_classes(loaded.labels, data.labels, str(path))
    ours, theirs = data.preprocessing, loaded.preprocessing
    if (ours.mean, ours.std) != (theirs.mean, theirs.std):
        raise BinsegError(
            f"{path}: the teacher was trained with other means and deviations of the pictures"
        )
    return loaded.model


def _quieten() -> None:
    """Silence lightning's hints that are about its defaults and not about this run."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*`isinstance\\(treespec.*",
        ".*GPU available but not used.*",
        ".*number of training batches.*",
    ):
        warnings.filterwarnings("ignore", message)
