"""Lightning's loggers, set up for a run's folder."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from binseg.atomic import atomic_path
from binseg.errors import BinsegError

LOGS = "logs"
"""The part of a run's folder that belongs to its logger."""

_PROJECT = "binseg"  # of W&B, and the experiment of MLflow


def check_logger(name: str) -> None:
    """Raise BinsegError if the package of a logger is not installed."""
    if name not in ("none", "csv") and importlib.util.find_spec(name) is None:
        raise BinsegError(
            f"trainer.logger {name} needs a package that is not installed; pip install {name}"
        )


def create_logger(name: str, folder: Path, *, resume: bool) -> Logger | None:
    """The logger of `trainer.logger`.

    csv and tensorboard write into FOLDER/logs. wandb and mlflow also send to a server, by their own
    environment variables (WANDB_PROJECT, WANDB_MODE, MLFLOW_TRACKING_URI, …); the run is called as
    its folder, and a resumed run goes on in the same one there.

    Args:
        name: of the configuration.
        folder: of the run.
        resume: whether the run goes on.

    Raises:
        BinsegError: its package is not installed.
    """
    check_logger(name)
    if name == "none":
        return None
    logs = (folder / LOGS).resolve()
    if name == "csv":
        # a folder of its own for each start: the logger empties the one that it gets
        return CSVLogger(folder, name=LOGS)
    if name == "tensorboard":
        return TensorBoardLogger(folder, name=LOGS, version="")
    run_id = None
    if resume:
        with contextlib.suppress(OSError):
            run_id = _id_file(name, folder).read_text(encoding="utf-8").strip() or None
    title = folder.resolve().name
    logs.mkdir(parents=True, exist_ok=True)
    if name == "wandb":
        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        return WandbLogger(name=title, save_dir=logs, project=project, id=run_id)
    return MLFlowLogger(
        os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT),
        run_name=title,
        # MLflow has given up its store of plain files
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{logs / 'mlflow.db'}"),
        artifact_location=(logs / "artifacts").as_uri(),
        run_id=run_id,
    )


def remember(logger: Logger, folder: Path) -> None:
    """Keep what the server calls the run, so that it goes on there when it is resumed."""
    name = {WandbLogger: "wandb", MLFlowLogger: "mlflow"}.get(type(logger))
    if name is not None and logger.version is not None:
        with atomic_path(_id_file(name, folder)) as temporary:
            temporary.write_text(f"{logger.version}\n", encoding="utf-8")


@contextlib.contextmanager
def closing_logger(logger: Logger | None) -> Iterator[None]:
    """End at last what a logger of `create_logger` began, so that the next run begins its own."""
    try:
        yield
    finally:
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish()


def _id_file(name: str, folder: Path) -> Path:
    return folder / LOGS / f"{name}.id"
