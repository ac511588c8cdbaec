"""Loggers, callbacks, and trainings that end early."""

import csv
import importlib.util
import json
from dataclasses import replace

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from test_run import history, state, tiny

from binseg.errors import BinsegError
from binseg.training import loggers
from binseg.training.checkpoints import LAST
from binseg.training.config import TrainerConfig, to_plain
from binseg.training.fitting import prepare_process
from binseg.training.run import train
from binseg.training.stopping import TimeLimit


class Watch(L.Callback):
    """Keeps what callbacks see after each validation."""

    def __init__(self):
        self.seen = []

    def on_validation_end(self, trainer, pl_module):
        self.seen.append({key: float(value) for key, value in trainer.callback_metrics.items()})


def rows_of(path):
    with path.open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run that was never disturbed, and what a callback saw of it."""
    watch = Watch()
    folder = tmp_path_factory.mktemp("watched") / "run"
    return train(tiny(logger="csv"), folder, callbacks=[watch]), watch.seen


def test_figures_reach_the_logger_and_callbacks(watched):
    result, seen = watched
    folder = result.folder / "logs/version_0"
    rows = rows_of(folder / "metrics.csv")
    validations = [row for row in rows if "val_miou" in row]
    epochs = [row for row in rows if "loss" in row]
    assert len(validations) == len(epochs) == len(seen) == 2
    for entry, figures, validation, epoch in zip(
        history(result.folder), seen, validations, epochs, strict=True
    ):
        for key in ("val_miou", "val_pixel_accuracy"):
            assert figures[key] == pytest.approx(entry[key], abs=1e-6)
            assert validation[key] == pytest.approx(entry[key], abs=1e-6)
        for key in ("loss", "lr"):
            assert epoch[key] == pytest.approx(entry[key], rel=1e-5)
        classes = [value for key, value in figures.items() if key.startswith("val_iou/")]
        assert sum(classes) / len(classes) == pytest.approx(entry["val_miou"], abs=1e-6)
    assert yaml.safe_load((folder / "hparams.yaml").read_text()) == to_plain(tiny(logger="csv"))


class Stop(L.Callback):
    """Ends the time at a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        TimeLimit.now = 3601.0 if trainer.global_step + 1 >= self.step else 0.0


def test_hours_end_a_training_which_goes_on_bit_for_bit(watched, tmp_path, monkeypatch, capsys):
    finished, _ = watched
    monkeypatch.setattr(TimeLimit, "now", 0.0, raising=False)
    monkeypatch.setattr(TimeLimit, "time_elapsed", lambda self, *_: self.now)
    folder = tmp_path / "run"
    with pytest.raises(BinsegError, match=r"no file of it yet; raise trainer\.hours and go on"):
        train(tiny(hours=1.0), folder, callbacks=[Stop(4)])
    assert torch.load(folder / LAST, weights_only=True)["global_step"] == 4
    # not over yet: on to the middle of the second epoch, which is validated
    TimeLimit.now = 0.0
    result = train(tiny(hours=1.0), folder, resume=True, callbacks=[Stop(9)])
    assert torch.load(folder / LAST, weights_only=True)["global_step"] == 9
    assert result.best_epoch == 2
    assert [entry["epoch"] for entry in history(folder)] == [1, 2]
    printed = capsys.readouterr().out
    assert "ended after 2 of 2" not in printed
    # still over: nothing is trained
    assert train(tiny(hours=1.0), folder, resume=True).best_miou == result.best_miou
    assert torch.load(folder / LAST, weights_only=True)["global_step"] == 9
    assert "trainer.hours (1) are over; raise it and go on with" in capsys.readouterr().out
    last = train(tiny(hours=2.0), folder, resume=True)
    assert last.best_miou == max(result.best_miou, finished.best_miou)
    one, other = state(finished.folder), state(folder)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert history(folder) == history(finished.folder)


def test_patience_ends_a_training(tmp_path, capsys):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    experiment = tiny(epochs=9, patience=1, ema=0.0, logger="tensorboard")
    still = replace(experiment, optimizer=replace(experiment.optimizer, lr=1e-30))
    folder = tmp_path / "run"
    result = train(still, folder)
    # the first epoch does not count, the second has the best score, the third no better one
    assert [entry["epoch"] for entry in history(folder)] == [1, 2, 3]
    assert result.best_epoch == 2
    line = "ended after 3 of 9 epochs: no better val mIoU in 1 validations (trainer.patience)"
    assert line in capsys.readouterr().out
    assert train(still, folder, resume=True).best_epoch == 2
    assert len(history(folder)) == 3
    more = replace(still, trainer=replace(still.trainer, patience=2))
    train(more, folder, resume=True)
    assert len(history(folder)) == 4
    # all that was resumed is one curve
    events = reader.EventAccumulator(str(folder / "logs"))
    events.Reload()
    scores = [event.value for event in events.Scalars("val_miou")]
    assert scores == pytest.approx([entry["val_miou"] for entry in history(folder)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp16"}, "precision fp16 works on CUDA GPUs only; use bf16 or fp32"),
        ({"sync_batchnorm": True}, "sync_batchnorm works on CUDA GPUs only"),
        ({"logger": "wandb"}, "needs a package that is not installed; pip install wandb"),
        ({"logger": "mlflow"}, "needs a package that is not installed; pip install mlflow"),
    ],
)
def test_what_this_machine_does_not_have_is_refused(settings, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BinsegError, match=message):
        prepare_process(TrainerConfig(**settings))


@pytest.mark.parametrize(("name", "kind"), [("wandb", WandbLogger), ("mlflow", MLFlowLogger)])
def test_a_resumed_run_goes_on_in_the_same_one_of_the_server(name, kind, tmp_path, monkeypatch):
    """What the servers' loggers are given; their packages are not needed for that."""
    given = []

    class Logger(kind):
        version = "id-7"

        def __init__(self, *_, **settings):
            given.append(settings)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(loggers, kind.__name__, Logger)
    folder = tmp_path / "run7"
    first = loggers.create_logger(name, folder, resume=False)
    loggers.remember(first, folder)
    loggers.create_logger(name, folder, resume=True)
    loggers.create_logger(name, folder, resume=False)
    key = {"wandb": "id", "mlflow": "run_id"}[name]
    assert [settings[key] for settings in given] == [None, "id-7", None]
    assert "run7" in json.dumps(given[0], default=str)
