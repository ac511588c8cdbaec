"""Running the Lightning trainer over a run folder, and wording what goes wrong in it."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, Strategy

from binseg.data.position import ResumableData
from binseg.data.preprocess import Preprocessing
from binseg.distributed.processes import Processes
from binseg.errors import BinsegError
from binseg.malloc import keep_freed_memory
from binseg.training.binary_module import BinaryModule, Recipe
from binseg.training.checkpoints import AtomicCheckpointIO, Checkpoints
from binseg.training.classes import ClassTable, check_classes, write_classes
from binseg.training.config import TrainerConfig, to_plain
from binseg.training.loggers import check_logger, closing_logger, create_logger, remember
from binseg.training.reporting import Reporter
from binseg.training.run_folder import Start, write_config
from binseg.training.stopping import Patience, TimeLimit

_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

_NOISE = (
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec.*",
    ".*GPU available but not used.*",
    ".*number of training batches.*",
    ".*recommended to use .*sync_dist=True.*",  # the scores are those of all processes already
)


def prepare_process(config: TrainerConfig) -> None:
    """Set threads and seeds of this process, before anything is built.

    Raises:
        BinsegError: a setting or a logger that this machine does not have.
    """
    _check_gpu_settings(config)
    check_logger(config.logger)
    if config.compile:
        _check_compiler()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    L.seed_everything(config.seed, verbose=False)


def _check_gpu_settings(config: TrainerConfig) -> None:
    if config.accelerator != "cpu" and torch.cuda.is_available():
        return
    if config.precision == "fp16":
        raise BinsegError("trainer.precision fp16 works on CUDA GPUs only; use bf16 or fp32 here")
    if config.sync_batchnorm:
        raise BinsegError("trainer.sync_batchnorm works on CUDA GPUs only; leave it out here")


def _check_compiler() -> None:
    try:
        torch.compile(_one_more)(torch.zeros(2))
    except Exception as error:  # of many kinds, by what is missing
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BinsegError(
            f"trainer.compile needs what torch.compile needs, on a CPU a C++ compiler such as g++ "
            f"({reason}); install it, or leave trainer.compile off"
        ) from error


def _one_more(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def check_teacher_images(path: Path, ours: Preprocessing, theirs: Preprocessing) -> None:
    """Refuse the teacher of `path` if it reads images that are normalised in another way.

    Raises:
        BinsegError: other means or deviations.
    """
    if (ours.mean, ours.std) != (theirs.mean, theirs.std):
        raise BinsegError(
            f"{path}: the teacher was trained with other means and deviations of the images"
        )


def fit(
    module: BinaryModule[Any],
    data: ResumableData,
    folder: Path,
    start: Start,
    processes: Processes,
    *,
    classes: ClassTable,
    command: str,
    callbacks: Iterable[L.Callback] = (),
    logger: Logger | Iterable[Logger] | None = None,
) -> Checkpoints:
    """Train `module` on `data` and leave everything about it in `folder`.

    Args:
        start: how the run begins.
        processes: those that train.
        classes: of the data.
        command: of binseg that goes on with a stopped run.
        callbacks: the user's.
        logger: the user's, in place of the configuration's.

    Returns:
        The callback that knows the best score and its epoch.

    Raises:
        BinsegError: see `binseg.training.run.train`.
    """
    recipe = module.recipe
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)  # hints about its own defaults
    checkpoints = Checkpoints(folder, recipe.trainer.checkpoint_minutes, command)
    processes.advise(checkpoints.advice)
    notes = list(start.notes)
    if start.checkpoint is not None:
        source = _source_of_classes(recipe)
        notes += processes.decided("classes", lambda: check_classes(classes, folder, source))
    reporter = Reporter(folder, recipe.trainer.overlays, checkpoints, recipe.trainer.hours)
    resumes = start.checkpoint is not None
    begin = _Begin(recipe, folder, classes, notes, reporter, resumes=resumes)
    limits = _limits(module)
    own = create_logger(recipe.trainer.logger, folder, resume=resumes) if logger is None else None
    trainer = _create_trainer(
        recipe,
        folder,
        [begin, reporter, *limits, *callbacks, checkpoints],
        own if logger is None else logger,
    )
    with _explained_errors(checkpoints), closing_logger(own), warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        trainer.fit(module, datamodule=data, ckpt_path=start.checkpoint, weights_only=True)
    if trainer.is_global_zero:
        _report_end(trainer, module, limits, reporter, checkpoints)
    if not checkpoints.best_epoch:
        raise BinsegError(
            "the training ended before a validation of the binary network, so there is no file of "
            f"it yet; raise trainer.hours and {checkpoints.advice()}"
        )
    return checkpoints


def _limits(module: BinaryModule[Any]) -> list[Patience | TimeLimit]:
    config = module.recipe.trainer
    limits: list[Patience | TimeLimit] = []
    if config.patience is not None:
        limits.append(Patience(next(iter(module.figure_names)), config.patience))
    if config.hours is not None:
        limits.append(TimeLimit(config.hours))
    return limits


def _report_end(
    trainer: L.Trainer,
    module: BinaryModule[Any],
    limits: Iterable[Patience | TimeLimit],
    reporter: Reporter,
    checkpoints: Checkpoints,
) -> None:
    """Say why a training ended before its last epoch."""
    config = module.recipe.trainer
    if trainer.current_epoch >= config.epochs:
        return
    for limit in limits:
        if not limit.is_over:
            continue
        if isinstance(limit, Patience):
            reason = (
                f"no better {next(iter(module.figure_names.values()))} in {config.patience} "
                "validations (trainer.patience)"
            )
        else:
            reason = f"trainer.hours ({config.hours:g}) are over"
        reporter.say(
            f"ended after {trainer.current_epoch} of {config.epochs} epochs: {reason}; raise it "
            f"and {checkpoints.advice()}"
        )


def _source_of_classes(recipe: Recipe) -> str:
    """What a message calls the table of classes: its file, if it has one."""
    root = getattr(recipe.data, "root", None)
    if root is None:
        return f"data.name {recipe.data.name}"
    file = Path(root) / "labels.yaml"
    return str(file if file.exists() else root)


@contextmanager
def _explained_errors(checkpoints: Checkpoints) -> Iterator[None]:
    """Say in the user's words what lightning and torch say in theirs."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise BinsegError(
            "the GPU's memory is full; lower data.batch_size or the images' size, or set "
            "trainer.precision to bf16"
        ) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise BinsegError(
            "a process that loads images was killed, most likely for want of memory; lower "
            f"data.workers, data.batch_size or data.crop, and {checkpoints.advice()}"
        ) from error
    except SystemExit as error:
        # lightning's answer to signals that come outside of training steps
        raise checkpoints.stopped() from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise BinsegError(
            "BatchNorm cannot learn from one pixel: raise data.batch_size or the images' size, "
            "or lower model.output_stride"
        ) from error
    finally:
        checkpoints.release_signals()


class _Begin(L.Callback):
    """Writes the configuration once training really begins, and plans its validations.

    Args:
        recipe: the configuration.
        folder: of the run.
        classes: of the data.
        notes: lines to report then.
        reporter: reports them.
        resumes: whether the run goes on, so that loggers have its configuration.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        classes: ClassTable,
        notes: list[str],
        reporter: Reporter,
        *,
        resumes: bool,
    ) -> None:
        self.recipe = recipe
        self.resumes = resumes
        self.folder = folder
        self.classes = classes
        self.notes = notes
        self.reporter = reporter

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        write_config(self.recipe, self.folder)
        write_classes(self.classes, self.folder)
        for note in self.notes:
            self.reporter.say(note)
        for logger in trainer.loggers:
            if not self.resumes:
                logger.log_hyperparams(to_plain(self.recipe))
            remember(logger, self.folder)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Validate at the end of each binarization step too, whatever the interval."""
        assert isinstance(pl_module, BinaryModule)
        last = trainer.current_epoch + 1 in {step.end for step in pl_module.steps}
        trainer.check_val_every_n_epoch = 1 if last else self.recipe.trainer.validate_every


def _create_trainer(
    recipe: Recipe,
    folder: Path,
    callbacks: list[L.Callback],
    logger: Logger | Iterable[Logger] | None,
) -> L.Trainer:
    config = recipe.trainer
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
            precision=_PRECISIONS[config.precision],
            sync_batchnorm=config.sync_batchnorm,
            max_epochs=config.epochs,
            accumulate_grad_batches=config.accumulate,
            gradient_clip_val=recipe.optimizer.clip_gradient,
            check_val_every_n_epoch=config.validate_every,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            logger=logger or False,
            # only what the user has asked for
            enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
            enable_progress_bar=any(isinstance(each, ProgressBar) for each in callbacks),
            enable_model_summary=any(isinstance(each, ModelSummary) for each in callbacks),
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO(config.epochs)],
        )
    except Exception as error:
        # lightning's own exceptions for a missing GPU or an impossible number of devices
        if type(error).__name__ != "MisconfigurationException":
            raise
        raise BinsegError(f"trainer settings do not fit this machine: {error}") from error
