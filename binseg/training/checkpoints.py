"""What a run leaves on the disk, so that it can be killed at any moment and resumed."""

import io
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from binseg.atomic import atomic_path
from binseg.errors import BinsegError
from binseg.packed import file
from binseg.training.module import SegmentationModule

LAST = "last.ckpt"
BEST = "best.safetensors"


class StopRequestedError(Exception):
    """The run was asked to stop (Ctrl-C or SIGTERM) and has written its checkpoint."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or not there, and run no code when they are read."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        # into memory first: torch's own writer hides why the disk refused
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what the broken bytes happen to hit
            raise BinsegError(
                f"{path}: not a readable checkpoint ({type(error).__name__}); remove the run "
                "folder and train again"
            ) from error


class Checkpoints(Callback):
    """Writes `last.ckpt` at the end of every epoch and every few minutes, and `best.safetensors`.

    The best is by val mIoU among validations of the fully binary network, with the statistics that
    were validated.

    Args:
        folder: of the run.
        minutes: between checkpoints inside an epoch.

    Attributes:
        best: its val mIoU; −1 before the first.
        best_epoch: its epoch, from 1.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder = folder
        self.minutes = minutes
        self.best = -1.0
        self.best_epoch = 0
        self.stop_requested = False
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self.best_epoch = state_dict["best_epoch"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        if trainer.is_last_batch:
            return  # the end of the epoch saves, after its validation
        # processes must agree, or one would wait in the save for ever
        stop = trainer.strategy.reduce_boolean_decision(self.stop_requested, all=False)
        due = time.monotonic() - self._saved_at > 60 * self.minutes
        if stop or trainer.strategy.reduce_boolean_decision(due, all=False):
            self._save(trainer)
        if stop:
            raise StopRequestedError

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = pl_module
        assert isinstance(module, SegmentationModule)
        assert module.scores is not None
        if not module.step or not module.step.final or not module.scores.mean_iou > self.best:
            return
        self.best = module.scores.mean_iou
        self.best_epoch = trainer.current_epoch + 1
        if trainer.is_global_zero:
            file.save(
                self.folder / BEST,
                module.evaluated,
                module.labels,
                module.preprocessing,
                training={
                    "data": module.experiment.data.name,
                    "val_miou": self.best,
                    "epoch": self.best_epoch,
                    "epochs": module.experiment.trainer.epochs,
                    "steps": trainer.global_step,
                },
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer)
        if trainer.strategy.reduce_boolean_decision(self.stop_requested, all=False):
            raise StopRequestedError

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.folder / LAST)
        self._saved_at = time.monotonic()

    @contextmanager
    def stopping_on_signals(self) -> Iterator[None]:
        """Let the first Ctrl-C or SIGTERM stop after the step at hand, a second one at once."""

        def request(number: int, frame: FrameType | None) -> None:
            if self.stop_requested:
                raise KeyboardInterrupt
            self.stop_requested = True

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, request)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
