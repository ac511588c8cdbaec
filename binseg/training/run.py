"""`train`: one experiment from its configuration to a run folder."""

import ctypes
import dataclasses
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from binseg.training.reporting import CURVES, HISTORY, LOG, OVERLAYS, Reporter

CONFIG = "config.yaml"
_NOISE = (
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec.*",
    ".*GPU available but not used.*",
    ".*number of training batches.*",
)
_OWN = {CONFIG, BEST, LAST, HISTORY, LOG, CURVES, OVERLAYS}


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
        resume: go on from `last.ckpt`, or begin if the run did not get that far.

    Raises:
        BinsegError: bad data or settings, an existing run without `resume`, no space left.
        StopRequestedError: Ctrl-C or SIGTERM; the message says how to go on.
    """
    config = experiment.trainer
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    _keep_freed_memory()
    checkpoint = _checkpoint_of(folder, resume=resume)
    changes = _changes(experiment, folder / CONFIG) if checkpoint is not None else []
    L.seed_everything(config.seed, verbose=False)

    data = SegmentationData(experiment.data)
    network = _network(experiment, data.labels, from_checkpoint=checkpoint is not None)
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
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)  # hints about its own defaults
    checkpoints = Checkpoints(folder, config.checkpoint_minutes)
    reporter = Reporter(folder, config.overlays, checkpoints)
    begin = _Begin(experiment, folder, changes, reporter)
    trainer = _create_trainer(experiment, folder, [begin, reporter, checkpoints])
    with _explained_errors(checkpoints), warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return TrainingResult(
        folder, folder / BEST, checkpoints.best, checkpoints.best_epoch, module.scores
    )


def _keep_freed_memory() -> None:
    """Let glibc keep the blocks that a step frees and the next one wants again.

    Giving them back and getting them page by page took a tenth of a step on a CPU. Other C
    libraries have no such switch and are left alone.
    """
    trim_threshold, mmap_threshold = -1, -3  # numbers of malloc.h
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 32 * 2**20)


def _network(experiment: Experiment, labels: LabelTable, *, from_checkpoint: bool) -> Segmenter:
    arguments = experiment.model.arguments(labels.num_classes)
    start = experiment.model.weights
    if from_checkpoint:
        # the weights are in the checkpoint: nothing to download, no first file to need again
        arguments.pop("encoder_weights", None)
        start = None
    network = create_model(**arguments)
    if start is not None:
        loaded = file.load(start)
        check_same_classes(loaded.labels, labels, str(start))
        file.load_tensors(network, loaded.model.state_dict(), source=start)
    return network.to(memory_format=torch.channels_last)


@contextmanager
def _explained_errors(checkpoints: Checkpoints) -> Iterator[None]:
    """Say in the user's words what lightning and torch say in theirs."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise BinsegError(
            "the GPU's memory is full; lower data.batch_size or data.crop, or set "
            "trainer.precision to bf16"
        ) from error
    except SystemExit as error:
        # lightning's answer to signals that come outside of training steps
        raise checkpoints.stopped() from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise BinsegError(
            "BatchNorm cannot learn from one pixel: raise data.batch_size or data.crop, or lower "
            "model.output_stride"
        ) from error
    finally:
        checkpoints.release_signals()


class _Begin(L.Callback):
    """Writes the configuration once training really begins, and plans its validations.

    Args:
        experiment: the configuration.
        folder: of the run.
        changes: keys whose values differ from those that the resumed run began with.
        reporter: tells of them.
    """

    def __init__(
        self, experiment: Experiment, folder: Path, changes: list[str], reporter: Reporter
    ) -> None:
        self.experiment = experiment
        self.folder = folder
        self.changes = changes
        self.reporter = reporter

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for name in (CONFIG, BEST, LAST, HISTORY, CURVES):
            for leftover in self.folder.glob(f".{Path(name).stem}-*"):  # killed while it wrote
                leftover.unlink()
        with atomic_path(self.folder / CONFIG) as temporary:
            temporary.write_text(yaml.safe_dump(to_plain(self.experiment), sort_keys=False))
        if self.changes:
            self.reporter.say(f"resuming with other values of {', '.join(self.changes)}")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Validate at the end of each binarization step too, whatever the interval."""
        assert isinstance(pl_module, SegmentationModule)
        last = trainer.current_epoch + 1 in {step.end for step in pl_module.steps}
        trainer.check_val_every_n_epoch = 1 if last else self.experiment.trainer.validate_every


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


def _checkpoint_of(folder: Path, *, resume: bool) -> Path | None:
    """The checkpoint to go on from, None to begin; refuses to write over anything else.

    A folder in which a run died before its first checkpoint may be begun anew.
    """
    if folder.exists() and not folder.is_dir():
        raise BinsegError(f"{folder}: a file; choose another --out")
    checkpoint = folder / LAST
    if resume:
        return checkpoint if checkpoint.exists() else None
    if checkpoint.exists() or (folder / BEST).exists():
        raise BinsegError(
            f"{folder}: holds a run already; go on with it by --resume, or choose another --out"
        )
    foreign = sorted(path.name for path in folder.glob("[!.]*") if path.name not in _OWN)
    if foreign:
        raise BinsegError(f"{folder}: holds {foreign[0]}, which no run wrote; choose another --out")
    return None


def _changes(experiment: Experiment, path: Path) -> list[str]:
    """Keys with other values than in the run's own configuration at `path`.

    Raises:
        BinsegError: one of them may not change, or the file cannot be read.
    """
    try:
        before = _flat(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BinsegError(
            f"{path}: cannot be read ({type(error).__name__}); train again into another --out"
        ) from error
    now = _flat(to_plain(experiment))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    fixed = [key for key in changed if _must_stay(key, before.get(key), now.get(key))]
    if fixed:
        raise BinsegError(
            f"{path}: {', '.join(fixed)} cannot change when a run is resumed; choose another --out"
        )
    return changed


def _must_stay(key: str, before: Any, now: Any) -> bool:
    """Whether a checkpoint means nothing to a run with another value of `key`."""
    if key == "trainer.ema":
        return 0 in (before, now)  # another decay is fine; there being an average is not
    if key in ("model.weights", "model.encoder_weights"):
        return False
    steady = ("data.name", "data.scenes_size", "optimizer.name", "trainer.accumulate")
    return key in steady or key.startswith(("model.", "binarization."))


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
