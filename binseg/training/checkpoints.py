"""What a run leaves on the disk, so that it can be killed at any moment and resumed."""

import contextlib
import io
import math
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from binseg.atomic import atomic_path
from binseg.errors import BinsegError
from binseg.model_file import read_header
from binseg.shipped import BEST
from binseg.training.binary_module import BinaryModule

LAST = "last.ckpt"
_SAME_REQUEST = 2.0  # seconds


class StopRequestedError(BinsegError):
    """The run was stopped by Ctrl-C or SIGTERM; the message says how to go on."""

    status = 130


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or not there, and run no code when they are read.

    Of several processes, process 0 reads, and sends the others what the file holds: their machine
    may have another disk.

    Args:
        epochs: that the run is to have in all.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

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
            content = io.BytesIO(_broadcast(Path(path)))
            checkpoint: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
            missing = {"state_dict", "global_step", "loops", "callbacks"} - checkpoint.keys()
            done = 0
            if not missing:
                done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        except Exception as error:  # torch raises what the broken bytes happen to hit
            raise BinsegError(
                f"{path}: not a readable checkpoint ({type(error).__name__}); train again into "
                "another --out"
            ) from error
        if missing:
            raise BinsegError(
                f"{path}: a checkpoint of something else (no {', '.join(sorted(missing))}); "
                "train again into another --out"
            )
        if done > self.epochs:
            raise BinsegError(
                f"{path}: the run has {done} epochs already, and trainer.epochs is {self.epochs}; "
                f"raise it, or take the network as it is: {Path(path).with_name(BEST)}"
            )
        return checkpoint


def _broadcast(path: Path) -> bytes:
    """What process 0's file at `path` holds, on every process."""
    if not dist.is_initialized():
        return path.read_bytes()
    box = [path.read_bytes() if dist.get_rank() == 0 else b""]
    dist.broadcast_object_list(box, src=0)
    return box[0]


class Checkpoints(Callback):
    """Writes `last.ckpt` at the end of every epoch and every few minutes, and `best.safetensors`.

    The best is by the first of the module's figures, among validations of the fully binary network,
    with the statistics that were validated. The first Ctrl-C or SIGTERM stops after the step at
    hand with a checkpoint, or at once during a validation; a second one stops at once.

    Args:
        folder: of the run.
        minutes: between checkpoints inside an epoch.
        command: of binseg that goes on with a stopped run.

    Attributes:
        best: its score, e.g. val mIoU; −1 before the first.
        best_epoch: its epoch, from 1.
    """

    def __init__(self, folder: Path, minutes: float, command: str = "train") -> None:
        self.folder = folder
        self.command = command
        self.minutes = minutes
        self.best = -1.0
        self.best_epoch = 0
        self._stop_requested = False
        self._requested_at = -math.inf
        self._is_first = self._is_alone = True
        self._saved_at = time.monotonic()
        self._is_saved = False
        self._handlers: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self.best_epoch = state_dict["best_epoch"]
        self._is_saved = True

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Know the best of a validation that came after the checkpoint, too."""
        assert isinstance(pl_module, BinaryModule)
        key = next(iter(pl_module.figure_names))
        with contextlib.suppress(BinsegError, KeyError, TypeError):
            of_file = read_header(self.folder / BEST)["training"]
            if of_file[key] > self.best:
                self.best, self.best_epoch = of_file[key], of_file["epoch"]
        # other processes may have no such file
        self.best, self.best_epoch = trainer.strategy.broadcast((self.best, self.best_epoch))

    # --- writing ---

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.is_last_batch:
            return  # the end of the epoch saves, after its validation
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # a checkpoint holds no gradients
        before_validation = batch_idx + 2 >= trainer.num_training_batches
        pause = min(self.minutes, 0.5) if before_validation else self.minutes
        # processes must agree, or one would wait in the save for ever
        stop = self._agreed(trainer, self._stop_requested)
        due = trainer.should_stop or time.monotonic() - self._saved_at > 60 * pause
        if stop or self._agreed(trainer, due):
            self._save(trainer)
        if stop:
            raise self.stopped()

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        # not agreed upon: processes may have different numbers of val batches
        if self._stop_requested and trainer.world_size == 1:
            raise self.stopped()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, BinaryModule)
        key = next(iter(pl_module.figure_names))
        score = pl_module.figures[key]
        if not pl_module.step or not pl_module.step.final or not score > self.best:
            return
        self.best = score
        self.best_epoch = trainer.current_epoch + 1
        if trainer.is_global_zero:
            pl_module.write_model(
                self.folder / BEST,
                {
                    key: self.best,
                    "epoch": self.best_epoch,
                    "epochs": trainer.max_epochs,
                    "steps": trainer.global_step,
                },
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_last_batch:  # else it ended in the middle, where a checkpoint was written
            self._save(trainer)
        if self._agreed(trainer, self._stop_requested):
            raise self.stopped()

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.folder / LAST)
        self._saved_at = time.monotonic()
        self._is_saved = True

    @staticmethod
    def _agreed(trainer: L.Trainer, wish: bool) -> bool:
        """Whether any process wishes it."""
        return trainer.strategy.reduce_boolean_decision(wish, all=False)

    # --- stopping ---

    def advice(self) -> str:
        """How to go on with the run after it ended too early; the same on every process."""
        if self._is_saved:
            return f"go on with `binseg {self.command} --resume --out {self.folder}`"
        return "nothing was written yet: start again"

    def stopped(self) -> StopRequestedError:
        """The error that says how to go on."""
        return StopRequestedError(f"stopped; {self.advice()}")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over the signals, after lightning has installed handlers of its own."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._is_first, self._is_alone = trainer.is_global_zero, trainer.world_size == 1
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop_requested:
            # one Ctrl-C comes from the terminal, and once more from torchrun
            if self._is_alone or time.monotonic() - self._requested_at > _SAME_REQUEST:
                raise self.stopped()
            return
        self._stop_requested = True
        self._requested_at = time.monotonic()
        if self._is_first:
            text = "stopping after this step; once more to stop at once"
            print(text, file=sys.stderr, flush=True)

    def release_signals(self) -> None:
        """Give the signals back to whoever had them."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())
