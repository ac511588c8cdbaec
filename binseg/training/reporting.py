"""What a person sees of a run: lines, a progress bar, curves, and overlays of val images."""

import itertools
import json
import math
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from binseg.atomic import atomic_path
from binseg.data.imageio import write_image
from binseg.data.module import Batch
from binseg.data.preprocess import resize_image
from binseg.training.binary_module import BinaryModule
from binseg.training.checkpoints import Checkpoints
from binseg.training.module import SegmentationModule
from binseg.visualize import comparison

HISTORY = "history.json"
LOG = "train.log"
CURVES = "curves.png"
OVERLAYS = "overlays"

_WARM, _STEADY = 5, 20
"""Steps after which the pace counts, and after which it says how long a training takes."""


class Reporter(Callback):
    """Writes a line an epoch to the screen and `train.log`, and keeps the run folder's images.

    The run folder gets `history.json` (one entry an epoch), `curves.png` and
    `overlays/NAME.png` (image, truth, prediction and errors of the first val images).

    Args:
        folder: of the run.
        overlays: how many val images are drawn.
        checkpoints: knows the best score so far.
        hours: after which the training ends, or None.
        console: where lines and progress go.
    """

    def __init__(
        self,
        folder: Path,
        overlays: int,
        checkpoints: Checkpoints,
        hours: float | None = None,
        console: Console | None = None,
    ) -> None:
        self.folder = folder
        self.overlays = overlays
        self.checkpoints = checkpoints
        self.hours = hours
        self.console = console or Console(soft_wrap=True, highlight=False)
        self.history: list[dict[str, Any]] = []
        self._drawn = 0
        self._validated = False
        self._first_step = 0
        self._images = 0
        self._training_seconds = 0.0
        self._started = self._epoch_started = time.monotonic()
        self._progress: Progress | None = None
        self._warm_since: float | None = None
        self._estimated = False
        self._epochs_ended = 0

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]

    # --- progress ---

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.monotonic()
        self._first_step = trainer.global_step
        if trainer.is_global_zero and self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} steps, {task.fields[left]} left"),
                console=self.console,
                transient=True,
            )
            self._progress.start()
            self._progress.add_task("", total=int(trainer.estimated_stepping_batches), left="?")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_started = time.monotonic()
        self._validated = False
        self._images = 0
        self._training_seconds = 0.0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._images += len(batch["image"])
        self._training_seconds = time.monotonic() - self._epoch_started
        self._estimate(trainer)
        if self._progress is not None:
            self._progress.update(
                self._progress.task_ids[0],
                completed=trainer.global_step,
                description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
                left=duration(self._seconds_left(trainer)),
            )

    def _seconds_left(self, trainer: L.Trainer) -> float:
        """At this session's pace, validations included; unknown before the first step."""
        done = trainer.global_step - self._first_step
        if not done:
            return math.nan
        pace = (time.monotonic() - self._started) / done
        return pace * max(0, int(trainer.estimated_stepping_batches) - trainer.global_step)

    def _estimate(self, trainer: L.Trainer) -> None:
        """After the first steps, a line on how long all of it takes, before anyone waits hours."""
        steps = trainer.global_step - self._first_step
        if steps == _WARM and self._warm_since is None:
            self._warm_since = time.monotonic()
        if steps < _STEADY or self._warm_since is None or self._estimated:
            return
        self._estimated = True
        if self._epochs_ended:
            return  # its line has said it
        pace = (time.monotonic() - self._warm_since) / (steps - _WARM)
        total = int(trainer.estimated_stepping_batches)
        left = pace * (total - trainer.global_step)
        epoch = pace * total / max(1, trainer.max_epochs or 1)
        if trainer.is_global_zero and left > 0:
            self.say(
                f"an epoch takes about {duration(epoch)}, the training {duration(left)}, until "
                f"{at_time(datetime.now(), left)} (by the pace of the first {steps} steps; "
                "validations come on top)"
            )
            if self.hours is not None and left > 3600 * self.hours:
                fitting = max(1, int(3600 * self.hours / epoch))
                self.say(
                    f"trainer.hours ({self.hours:g}) ends it before that; with trainer.epochs "
                    f"{fitting} or fewer the learning rate comes to its end in time"
                )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    # --- figures and images ---

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._drawn = 0

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not isinstance(pl_module, SegmentationModule):
            return
        if trainer.is_global_zero and self._drawn < self.overlays:
            self._draw(batch, outputs["class_maps"], pl_module)

    def _draw(self, batch: Batch, class_maps: list[Tensor], module: SegmentationModule) -> None:
        for image, truth, prediction, name in zip(
            batch["image"], batch["label"], class_maps, batch["name"], strict=True
        ):
            if self._drawn >= self.overlays:
                return
            size = (truth.shape[0], truth.shape[1])
            drawn = comparison(
                resize_image(image.permute(1, 2, 0).contiguous().cpu().numpy(), size),
                truth.cpu().numpy(),
                prediction.numpy(),
                module.labels,
            )
            write_image(self.folder / OVERLAYS / f"{Path(name).stem}.png", drawn)
            self._drawn += 1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, BinaryModule)
        assert pl_module.step is not None
        entry: dict[str, Any] = {
            "epoch": trainer.current_epoch + 1,
            "step": pl_module.step.name,
            "loss": pl_module.mean_loss,
            "lr": pl_module.learning_rate,
            "seconds": round(time.monotonic() - self._epoch_started, 2),
        }
        if self._validated:
            entry |= pl_module.figures
        self.history.append(entry)
        self._epochs_ended += 1
        if trainer.is_global_zero:
            self._write(trainer, entry, pl_module.figure_names)

    def _write(self, trainer: L.Trainer, entry: dict[str, Any], names: dict[str, str]) -> None:
        parts = [
            f"epoch {entry['epoch']}/{trainer.max_epochs}",
            f"loss {entry['loss']:.3f}",
            f"lr {entry['lr']:.2e}",
        ]
        key, name = next(iter(names.items()))
        parts += [f"{names[k]} {entry[k]:.3f}" for k in names if k in entry]
        if key in entry and self.checkpoints.best >= 0:
            parts.append(f"best {self.checkpoints.best:.3f}")
        if entry["step"] != "binary":
            parts.append(f"step '{entry['step']}'")
        parts.append(f"{entry['seconds']:.0f} s")
        if self._training_seconds:
            pace = trainer.world_size * self._images / self._training_seconds
            parts.append(f"{pace:.1f} images/s")
        parts.append(f"{duration(self._seconds_left(trainer))} left")
        self.say("  ".join(parts))
        with atomic_path(self.folder / HISTORY) as temporary:
            temporary.write_text(json.dumps(self.history, indent=1) + "\n", encoding="utf-8")
        if key in entry:
            draw_curves(self.history, self.folder / CURVES, key, name)

    def say(self, line: str) -> None:
        """Print a line and add it to `train.log`."""
        self.console.print(line, markup=False)
        # a file's name may hold bytes that are text in no encoding
        with (self.folder / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")


def draw_curves(history: list[dict[str, Any]], path: Path, key: str, name: str) -> None:
    """Draw the loss and the score `name`, 0 to 1, over the epochs into a PNG.

    Args:
        history: one entry an epoch; those of epochs with a validation have `key`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    left.plot([e["epoch"] for e in history], [e["loss"] for e in history], color="tab:gray")
    left.set(xlabel="epoch", ylabel="training loss")
    right = left.twinx()
    validated = [e for e in history if key in e]
    right.plot(
        [e["epoch"] for e in validated],
        [e[key] for e in validated],
        color="tab:blue",
        marker="." if len(validated) < 60 else None,
    )
    right.set_ylabel(name, color="tab:blue")
    right.set_ylim(0, 1)
    for entry, following in itertools.pairwise(history):
        if entry["step"] != following["step"]:
            left.axvline(entry["epoch"] + 0.5, color="tab:red", linestyle=":")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def at_time(now: datetime, seconds: float) -> str:
    """When `seconds` have passed: "14:05", or with the day if it is not today: "Tue 14:05"."""
    then = now + timedelta(seconds=seconds)
    if then.date() == now.date():
        return f"{then:%H:%M}"
    return f"{then:%a %H:%M}" if then - now < timedelta(days=6) else f"{then:%Y-%m-%d %H:%M}"


def duration(seconds: float) -> str:
    """Seconds as people say them: "40 s", "12 min", "3 h 20 min"; "?" for nan."""
    if math.isnan(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
