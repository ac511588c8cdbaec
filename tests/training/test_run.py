"""Whole runs: what they leave behind, kill and resume, two processes, bad settings."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from binseg.cli import main
from binseg.data.config import DataConfig
from binseg.data.imageio import write_image, write_mask
from binseg.data.module import SegmentationData
from binseg.errors import BinsegError
from binseg.loaded import load, read_header
from binseg.lock import LOCK, locked
from binseg.predictor import evaluate
from binseg.training import checkpoints
from binseg.training.batchnorm import reestimate_batchnorm
from binseg.training.classes import CLASSES
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
        "config.yaml", "classes.json", "train.log", "history.json", "curves.png", "overlays",
        "last.ckpt", "best.safetensors",
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
train(tiny({workers}, checkpoint_minutes=0.0, accumulate={accumulate}), Path({folder!r}))
"""


def assert_killed_run_equals(whole, folder, *, workers, step, accumulate=1):
    """Kill a run right after its checkpoint of `step`, resume it, and compare every bit."""
    script = KILLED.format(
        here=str(Path(__file__).parent),
        step=step,
        workers=workers,
        accumulate=accumulate,
        folder=str(folder),
    )
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert died.returncode == -9, died.stderr
    resumed = train(tiny(workers, accumulate=accumulate), folder, resume=True)
    one, other = state(whole.folder), state(resumed.folder)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert history(whole.folder) == history(resumed.folder)
    assert resumed.model.read_bytes() == whole.model.read_bytes()


def test_a_compiled_run_learns_the_same(finished, tmp_path, monkeypatch):
    compiled, compile = [], torch.compile

    def recorded(call, **options):  # traced, but nothing built: that is torch's own part
        compiled.append(call.__name__)
        return compile(call, backend="eager")

    monkeypatch.setattr(torch, "compile", recorded)
    run = train(tiny(compile=True), tmp_path / "run")
    assert compiled == ["_one_more", "forward"]
    one, other = state(finished.folder), state(run.folder)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_without_a_compiler_a_compiled_run_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (str(tmp_path / "none"),))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    with pytest.raises(BinsegError, match=r"trainer\.compile needs .* a C\+\+ compiler"):
        train(tiny(compile=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("step", "workers"), [(4, 2), (9, 0)])
def test_a_killed_run_goes_on_bit_for_bit(finished, tmp_path, workers, step):
    assert_killed_run_equals(finished, tmp_path / "run", workers=workers, step=step)


def test_a_killed_run_that_accumulates_goes_on_bit_for_bit(tmp_path):
    """A checkpoint between two batches of one step would lose the first one's gradient."""
    whole = train(tiny(accumulate=2), tmp_path / "whole")
    assert_killed_run_equals(whole, tmp_path / "run", workers=0, step=2, accumulate=2)


SIGNALLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_run import tiny
from binseg.cli import main
from binseg.cli import train as command
from binseg.training import module

hook = module.SegmentationModule.{hook}
sent = []
def send(self, *args):
    if self.global_step == {step} and not sent:
        sent.append(True)
        for _ in range({times}):
            os.kill(os.getpid(), {number})
    return hook(self, *args)
module.SegmentationModule.{hook} = send
command.Experiment = lambda *parts: tiny()
sys.exit(main(["train", "--out", {folder!r}]))
"""


@pytest.mark.parametrize(
    ("number", "hook", "step", "times", "saved"),
    [
        # the step at hand is finished and kept
        (signal.SIGINT, "training_step", 2, 1, 3),
        (signal.SIGTERM, "training_step", 2, 1, 3),
        # at once, in the first validation
        (signal.SIGTERM, "validation_step", 6, 1, None),
        # twice: at once; the end of the first epoch was kept
        (signal.SIGINT, "training_step", 8, 2, 6),
    ],
    ids=["ctrl_c", "sigterm", "validation", "twice"],
)
def test_signals_stop_in_one_line_and_say_how_to_go_on(tmp_path, number, hook, step, times, saved):
    folder = tmp_path / "run"
    script = SIGNALLED.format(
        here=str(Path(__file__).parent), hook=hook, step=step, times=times, number=int(number),
        folder=str(folder),
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    if saved is None:
        assert "start again" in last
        assert train(tiny(epochs=2), folder).best_epoch == 2  # the leftovers are no hindrance
    else:
        assert f"binseg train --resume --out {folder}" in last
        checkpoint = torch.load(folder / checkpoints.LAST, weights_only=True)
        assert checkpoint["global_step"] == saved


def test_two_hosts_train_and_score_as_one(tmp_path):
    """An agent of torchrun for each, on the CPU: the score is that of one process with the same
    weights."""
    folder = tmp_path / "host0"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", "--nnodes", "2",
        "--master-addr", "127.0.0.1", "--master-port", str(20000 + os.getpid() % 20000),
        "-m", "binseg", "train", "--data.name", "scenes",
        "--data.crop", "[32,48]", "--data.scenes_size", "[32,48]", "--data.scenes_train", "12",
        "--data.scenes_val", "5", "--data.batch_size", "2", "--data.calibration_images", "8",
        "--model.bases", "2", "--model.width", "8", "--model.output_stride", "16",
        "--trainer.epochs", "2", "--trainer.overlays", "0",
    ]  # fmt: skip
    agents = []
    for rank in (0, 1):
        own = [*command[:3], "--node-rank", str(rank), *command[3:]]
        own += ["--out", str(tmp_path / f"host{rank}")]
        agents.append(subprocess.Popen(own, stderr=subprocess.PIPE, text=True))
    errors = [agent.communicate()[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], errors
    assert not (tmp_path / "host1").exists()
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


@pytest.mark.parametrize("name", ["thesis.tex", "best.safetensors"])
def test_other_peoples_files_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(BinsegError, match=str(tmp_path)):
        train(tiny(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failed_start_leaves_nothing_behind(tmp_path):
    experiment = tiny()
    bad = replace(experiment, model=replace(experiment.model, bases=0))
    with pytest.raises(BinsegError, match="1 to 8 bases"):
        train(bad, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("model", {"bases": 3}, r"model\.bases cannot change"),
        ("trainer", {"ema": 0.0}, r"trainer\.ema cannot change"),
        ("trainer", {"accumulate": 2}, r"trainer\.accumulate cannot change"),
        ("binarization", {"activation_epochs": 0}, r"binarization\.activation_epochs cannot"),
        ("optimizer", {"name": "sgd"}, r"optimizer\.name cannot change"),
    ],
)
def test_resuming_with_what_would_make_nonsense_is_refused(finished, part, changes, message):
    before = (finished.folder / "config.yaml").read_text()
    other = tiny()
    other = replace(other, **{part: replace(getattr(other, part), **changes)})
    with pytest.raises(BinsegError, match=message):
        train(other, finished.folder, resume=True)
    assert (finished.folder / "config.yaml").read_text() == before


def test_resuming_with_another_learning_rate_takes_it(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    other = tiny(epochs=3)
    other = replace(
        other, optimizer=replace(other.optimizer, lr=7e-4, schedule="constant", warmup=0.0)
    )
    train(other, folder, resume=True)
    assert "resuming with other values of optimizer.lr" in capsys.readouterr().out
    assert [round(entry["lr"], 9) for entry in history(folder)][-1] == 7e-4
    assert "lr: 0.0007" in (folder / "config.yaml").read_text()


def test_resuming_for_fewer_epochs_than_are_done_is_refused_in_words(finished):
    checkpoint = finished.folder / checkpoints.LAST
    message = r"last\.ckpt: the run has 2 epochs already, and trainer\.epochs is 1; raise it"
    with pytest.raises(BinsegError, match=message):
        checkpoints.AtomicCheckpointIO(epochs=1).load_checkpoint(checkpoint)


def test_resuming_for_as_many_epochs_as_are_done_trains_nothing(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    assert train(tiny(epochs=2), folder, resume=True).best_miou == finished.best_miou
    assert history(folder) == history(finished.folder)


def test_a_run_goes_on_with_its_own_classes_only(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    table = json.loads((folder / CLASSES).read_text())
    assert table["names"] == list(tiny().data.label_table().names)
    table["names"][:2] = table["names"][1::-1]
    (folder / CLASSES).write_text(json.dumps(table))
    with pytest.raises(BinsegError, match=r"classes have changed since the run .*: class 0 was"):
        train(tiny(epochs=3), folder, resume=True)
    assert history(folder) == history(finished.folder)


def test_a_folder_in_which_another_program_works_is_refused(finished):
    before = finished.model.stat().st_mtime_ns
    with locked(finished.folder), pytest.raises(BinsegError, match="works there"):
        train(tiny(epochs=3), finished.folder, resume=True)
    assert finished.model.stat().st_mtime_ns == before
    assert not (finished.folder / LOCK).exists()


def test_a_killed_loader_process_is_one_line(tmp_path, monkeypatch):
    def killed(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("binseg.data.module._augmented", killed)
    with pytest.raises(BinsegError, match=r"loads images was killed.*lower data\.workers"):
        train(tiny(workers=1), tmp_path / "run")


def harm_by_cutting(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def harm_by_replacing(path):
    torch.save({"weights": torch.zeros(1)}, path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [(harm_by_cutting, "not a readable checkpoint"), (harm_by_replacing, "of something else")],
)
def test_a_damaged_checkpoint_is_named(finished, tmp_path, harm, message):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    harm(folder / checkpoints.LAST)
    with pytest.raises(BinsegError, match=rf"last\.ckpt: .*{message}"):
        train(tiny(), folder, resume=True)
    assert (folder / checkpoints.BEST).read_bytes() == finished.model.read_bytes()


def test_training_starts_from_a_file_and_learns_from_a_teacher(finished, tmp_path):
    experiment = tiny(epochs=1)
    experiment = replace(
        experiment,
        model=replace(experiment.model, start=str(finished.model)),
        optimizer=OptimizerConfig(lr=1e-12),
        binarization=BinarizationConfig(),
        distillation=DistillationConfig(teacher=finished.model),
        trainer=replace(experiment.trainer, ema=0.0),
    )
    result = train(experiment, tmp_path / "run")
    before, after = load(finished.model).model, load(result.model).model
    for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6, msg=name)


def test_a_val_split_without_labels_is_said(tmp_path):
    data = tmp_path / "data"
    for name, value in (("a", 0), ("b", 1), ("c", 255)):
        split = "val" if name == "c" else "train"
        write_image(data / "images" / split / f"{name}.png", np.zeros((32, 48, 3), np.uint8))
        write_mask(data / "masks" / split / f"{name}.png", np.full((32, 48), value, np.uint8))
    (data / "labels.yaml").write_text("classes: [one, two]\n")
    experiment = tiny()
    experiment = replace(experiment, data=replace(experiment.data, name="folder", root=str(data)))
    with pytest.raises(BinsegError, match="val: all pixels of its 1 masks are ignored"):
        train(experiment, tmp_path / "run")


def test_a_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(
    finished, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    before = (folder / checkpoints.LAST).read_bytes()
    write = Path.write_bytes

    def full(self, content):
        if self.suffix == ".ckpt":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BinsegError, match=r"last\.ckpt: no space left"):
        train(tiny(epochs=3), folder, resume=True)
    assert (folder / checkpoints.LAST).read_bytes() == before


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    experiment = replace(tiny(), optimizer=OptimizerConfig(name="sgd", lr=1e30))
    with pytest.raises(BinsegError, match=r"lower optimizer\.lr"):
        train(experiment, tmp_path / "run")


def test_resume_reads_the_configuration_of_the_run(finished, capsys):
    """`binseg train --resume --out RUN` needs no --config."""
    assert main(["train", "--resume", "--out", str(finished.folder)]) == 0
    assert f"{finished.best_miou:.4f}" in capsys.readouterr().out
