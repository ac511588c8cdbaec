"""The run folders of a comparison: what is trained, what is left to train, what does not fit."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from binseg.compare.config import Comparison, flat, leaves_of
from binseg.errors import BinsegError
from binseg.loaded import read_header
from binseg.training.checkpoints import BEST
from binseg.training.config import Experiment
from binseg.training.reporting import HISTORY
from binseg.training.run_folder import CONFIG

_FREE = {
    "data.root",
    "data.cache",
    "data.workers",
    "data.val_batch_size",
    "trainer.checkpoint_minutes",
    "trainer.logger",
    "trainer.overlays",
    "trainer.threads",
}
"""Keys that change where and how fast a network is trained, not what becomes of it."""


@dataclass(frozen=True)
class Run:
    """One training of one network.

    Attributes:
        name: of the row.
        seed: its `trainer.seed`.
        fold: whose data it is trained on; None without folds.
        experiment: all of its configuration.
        folder: where it is trained.
    """

    name: str
    seed: int
    fold: str | None
    experiment: Experiment
    folder: Path

    @property
    def title(self) -> str:
        """As a person reads it."""
        return f"{self.name}, seed {self.seed}{f', fold {self.fold}' if self.fold else ''}"

    @property
    def model(self) -> Path:
        """The file of the best network."""
        return self.folder / BEST

    @property
    def history(self) -> list[dict[str, Any]]:
        """An entry for each epoch that is over; empty if there is none, or no readable file."""
        try:
            entries: list[dict[str, Any]] = json.loads((self.folder / HISTORY).read_text())
        except (OSError, ValueError):
            return []
        return entries

    @property
    def finished(self) -> bool:
        """Whether its last epoch is over."""
        return self.model.exists() and len(self.history) >= self.experiment.trainer.epochs

    @property
    def minutes(self) -> float:
        """Of its epochs, validations included; of an interrupted one only the part after that."""
        return sum(entry["seconds"] for entry in self.history) / 60

    @property
    def best(self) -> tuple[float, int]:
        """The best val mIoU of its own validations, and its epoch from 1.

        Raises:
            BinsegError: the model file is damaged.
        """
        training = read_header(self.model)["training"]
        return training["val_miou"], training["epoch"]

    def changes(self) -> list[str]:
        """Keys that have other values than those that the folder's network was trained with.

        A key that its configuration does not have counts as the default.

        Raises:
            BinsegError: the folder's configuration cannot be read.
        """
        path = self.folder / CONFIG
        if not path.exists():
            return []
        try:
            written = flat(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
            raise BinsegError(
                f"{path}: cannot be read ({type(error).__name__}); delete {self.folder}"
            ) from error
        before = {**leaves_of(Experiment()), **written}
        now = leaves_of(self.experiment)
        return sorted(key for key in now.keys() - _FREE if before[key] != now[key])


def runs_of(comparison: Comparison, out: Path) -> list[Run]:
    """All trainings, the first seed of every network first, and of it all folds.

    Raises:
        BinsegError: `out` is a file, or holds networks that were trained with another
            configuration; the message names them and what is different.
    """
    if out.exists() and not out.is_dir():
        raise BinsegError(f"{out}: a file; choose another --out")
    runs = []
    for seed in comparison.seeds:
        for name in comparison.networks:
            for fold in comparison.folds or (None,):
                experiment = comparison.experiment(name, seed, fold)
                for key in ("patience", "hours"):
                    if getattr(experiment.trainer, key) is not None:
                        raise BinsegError(
                            f"trainer.{key}: the networks of a comparison are trained for "
                            "trainer.epochs, all of them; remove it"
                        )
                folder = f"seed{seed}" if fold is None else f"seed{seed}-{fold}"
                runs.append(Run(name, seed, fold, experiment, out / name / folder))
    changed = {f"{run.name}/{run.folder.name}": run.changes() for run in runs}
    wrong = {name: keys for name, keys in changed.items() if keys}
    if wrong:
        keys = sorted(set().union(*wrong.values()))
        raise BinsegError(
            f"{out}: trained with other values of {', '.join(keys)}: {', '.join(wrong)}; delete "
            "these folders to train them again, restore the values, or choose another --out"
        )
    return runs
