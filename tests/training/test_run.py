"""Whole runs: what they leave behind, kill and resume, two processes, bad settings."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from binseg.cli import main
from binseg.data.config import DataConfig
from binseg.data.module import SegmentationData
from binseg.errors import BinsegError
from binseg.packed.file import load, read_header
from binseg.predictor import evaluate
from binseg.training import checkpoints
from binseg.training.batchnorm import reestimate_batchnorm
from binseg.training.config import (
    BinarizationConfig,
    DistillationConfig,
    Experiment,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)
from binseg.training.run import train


def tiny(workers: int = 0, **trainer) -> Experiment:
    """Two epochs of six steps, with dropout, a moving average and two binarization steps."""
    return Experiment(
        data=DataConfig(
            name="scenes",
            crop=(32, 48),
            scenes_size=(32, 48),
            scenes_train=12,
            scenes_val=3,
            batch_size=2,
            workers=workers,
            calibration_images=6,
        ),
        model=ModelConfig(
            name="groupnet18", bases=2, width=8, atrous="bpac", output_stride=16, dropout=0.3
        ),
        optimizer=OptimizerConfig(lr=2e-3),
        binarization=BinarizationConfig(activation_epochs=1),
        trainer=TrainerConfig(**{"epochs": 2, "ema": 0.5, "overlays": 1, **trainer}),
    )


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / checkpoints.LAST, weights_only=True)["state_dict"]


def history(folder: Path) -> list[dict]:
    entries = json.loads((folder / "history.json").read_text())
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was never disturbed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return train(tiny(), folder)


def test_a_run_leaves_everything_behind(finished):
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {
        "config.yaml", "train.log", "history.json", "curves.png", "overlays", "last.ckpt",
        "best.safetensors",
    }  # fmt: skip
    assert len(list((finished.folder / "overlays").iterdir())) == 1
    steps = [entry["step"] for entry in history(finished.folder)]
    assert steps == ["activations", "binary"]


def test_the_best_file_scores_what_the_run_said(finished):
    header = read_header(finished.model)
    assert header["training"]["epoch"] == 2  # the first epoch's weights were not binary
    scores = evaluate(finished.model, tiny().data.open("val"), boundary_distance=None).scores
    assert scores.mean_iou == pytest.approx(finished.best_miou, abs=1e-6)
    assert header["training"]["val_miou"] == finished.best_miou


def test_the_saved_network_is_the_moving_average(finished):
    saved, full = load(finished.model).model.state_dict(), state(finished.folder)
    name = "backbone.stages.3.1.unit2.0.weight"
    assert torch.equal(saved[name], full[f"average.module.{name}"])
    assert not torch.equal(saved[name], full[f"network.{name}"])


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_run import tiny
from binseg.training.checkpoints import Checkpoints
from binseg.training.run import train

save = Checkpoints._save
def save_and_die(self, trainer):
    save(self, trainer)
    if trainer.global_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoints._save = save_and_die
train(tiny({workers}, checkpoint_minutes=0.0), Path({folder!r}))
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [4, 9])
def test_a_killed_run_goes_on_bit_for_bit(finished, tmp_path, workers, step):
    script = KILLED.format(
        here=str(Path(__file__).parent), step=step, workers=workers, folder=str(tmp_path / "run")
    )
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert died.returncode == -9, died.stderr
    resumed = train(tiny(workers), tmp_path / "run", resume=True)
    one, other = state(finished.folder), state(resumed.folder)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert history(finished.folder) == history(resumed.folder)
    assert resumed.model.read_bytes() == finished.model.read_bytes()


def test_ctrl_c_loses_nothing(tmp_path, monkeypatch):
    """The first signal stops after the step at hand, with a checkpoint and a line that helps."""
    start = checkpoints.Checkpoints.on_train_batch_end

    def press(self, trainer, *args):
        if trainer.global_step == 3:
            os.kill(os.getpid(), 2)
        start(self, trainer, *args)

    monkeypatch.setattr(checkpoints.Checkpoints, "on_train_batch_end", press)
    with pytest.raises(checkpoints.StopRequestedError):
        train(tiny(), tmp_path / "run")
    saved = torch.load(tmp_path / "run" / checkpoints.LAST, weights_only=True)
    assert saved["global_step"] == 3


def test_two_processes_train_and_score_as_one(tmp_path):
    """torchrun on the CPU: the score is that of one process with the same weights."""
    folder = tmp_path / "run"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2",
        "--master_port", str(20000 + os.getpid() % 20000),
        "-m", "binseg", "train", "--out", str(folder), "--data.name", "scenes",
        "--data.crop", "[32,48]", "--data.scenes_size", "[32,48]", "--data.scenes_train", "12",
        "--data.scenes_val", "5", "--data.batch_size", "2", "--data.calibration_images", "8",
        "--model.bases", "2", "--model.width", "8", "--model.output_stride", "16",
        "--trainer.epochs", "2", "--trainer.overlays", "0",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(history(folder)) == 2
    loaded = load(folder / "best.safetensors")
    data = SegmentationData(
        DataConfig(name="scenes", scenes_size=(32, 48), scenes_train=12, scenes_val=5,
                   crop=(32, 48), batch_size=2, calibration_images=8)
    )  # fmt: skip
    scores = evaluate(loaded, data.val_set.dataset, boundary_distance=None).scores
    assert scores.mean_iou == pytest.approx(loaded.header["training"]["val_miou"], abs=1e-6)
    both = {n: b.clone() for n, b in loaded.model.named_buffers() if "running" in n}
    batches = (batch["image"] for batch in data.calibration_batches())
    reestimate_batchnorm(loaded.model, batches, data.preprocessing.normalize)
    for name, buffer in loaded.model.named_buffers():
        if "running" in name:
            torch.testing.assert_close(buffer, both[name], rtol=1e-5, atol=1e-6)


def test_an_existing_run_is_not_overwritten(finished):
    before = finished.model.read_bytes()
    with pytest.raises(BinsegError, match="--resume"):
        train(tiny(), finished.folder)
    assert finished.model.read_bytes() == before


def test_resuming_with_another_network_is_refused(finished):
    other = tiny()
    other = replace(other, model=replace(other.model, bases=3))
    with pytest.raises(BinsegError, match=r"model\.bases cannot change"):
        train(other, finished.folder, resume=True)


def test_a_damaged_checkpoint_is_named(finished, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    whole = (finished.folder / checkpoints.LAST).read_bytes()
    (folder / checkpoints.LAST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BinsegError, match=r"last\.ckpt: not a readable checkpoint"):
        train(tiny(), folder, resume=True)


def test_training_starts_from_a_file_and_learns_from_a_teacher(finished, tmp_path):
    experiment = tiny(epochs=1)
    experiment = replace(
        experiment,
        model=replace(experiment.model, weights=finished.model),
        optimizer=OptimizerConfig(lr=1e-12),
        binarization=BinarizationConfig(),
        distillation=DistillationConfig(teacher=finished.model),
        trainer=replace(experiment.trainer, ema=0.0),
    )
    result = train(experiment, tmp_path / "run")
    before, after = load(finished.model).model, load(result.model).model
    for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6, msg=name)


def test_a_start_from_other_classes_is_refused(finished, tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "masks").mkdir()
    (tmp_path / "data" / "labels.yaml").write_text("classes: [{name: a}, {name: b}]\n")
    experiment = tiny()
    experiment = replace(
        experiment,
        data=replace(experiment.data, name="folder", root=str(tmp_path / "data")),
        model=replace(experiment.model, weights=finished.model),
    )
    with pytest.raises(BinsegError, match="other classes"):
        train(experiment, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    experiment = replace(tiny(), optimizer=OptimizerConfig(name="sgd", lr=1e30))
    with pytest.raises(BinsegError, match=r"lower optimizer\.lr"):
        train(experiment, tmp_path / "run")


def test_resume_reads_the_configuration_of_the_run(finished, capsys):
    """`binseg train --resume --out RUN` needs no --config."""
    assert main(["train", "--resume", "--out", str(finished.folder)]) == 0
    assert f"{finished.best_miou:.4f}" in capsys.readouterr().out
