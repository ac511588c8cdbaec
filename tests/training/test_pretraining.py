"""Pretraining runs: losses, what they leave behind, kill and resume, starting other networks."""

import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_pretraining import tiny, write_tree
from test_run import history, state
from test_run import tiny as segmentation

from binseg.data.classification import ClassificationData
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.loaded import load, read_header, save
from binseg.nn.backbone_file import load_classifier, save_classifier, start_backbone
from binseg.nn.segmenter import create_model
from binseg.training.batchnorm import reestimate_batchnorm
from binseg.training.classification_losses import (
    distillation,
    mix,
    soft_cross_entropy,
    soft_targets,
    topk_hits,
)
from binseg.training.config import (
    BinarizationConfig,
    DistillationConfig,
    ModelConfig,
    OptimizerConfig,
)
from binseg.training.pretraining import pretrain
from binseg.training.pretraining_config import (
    ClassificationLossConfig,
    classifier_arguments,
)
from binseg.training.run import train


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("pictures") / "tree")


@pytest.fixture(scope="module")
def finished(tree, tmp_path_factory):
    """A run that was never disturbed."""
    return pretrain(tiny(tree), tmp_path_factory.mktemp("pretrained") / "run")


# --- losses -----------------------------------------------------------------------------------


def test_smoothed_cross_entropy_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    loss = soft_cross_entropy(logits, soft_targets(torch.tensor([1]), 3, 0.3))
    total = math.exp(2) + 1 + math.exp(-1)
    logs = [2 - math.log(total), -math.log(total), -1 - math.log(total)]
    assert loss.item() == pytest.approx(-(0.1 * logs[0] + 0.8 * logs[1] + 0.1 * logs[2]))
    torch.testing.assert_close(
        soft_cross_entropy(logits, soft_targets(torch.tensor([1]), 3, 0.3)),
        torch.nn.functional.cross_entropy(logits, torch.tensor([1]), label_smoothing=0.3),
    )


def test_mixup_mixes_images_and_targets_alike():
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 2, 2)
    targets = torch.eye(5)
    torch.manual_seed(4)
    mixed, soft = mix(images, targets, 0.7)
    # each image holds its number, so its targets tell what it must show
    expected = soft @ torch.arange(5.0)
    torch.testing.assert_close(mixed[:, 0, 0, 0], expected)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(5))
    share = soft.diagonal()[(soft > 0).sum(dim=1) == 2]
    assert len(share)
    torch.testing.assert_close(share, share[:1].expand_as(share))
    same, unchanged = mix(images, targets, 0.0)
    assert same is images
    assert unchanged is targets


def test_distillation_by_hand():
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    p = 1 / (1 + math.exp(1.5))  # of class 0, at temperature 2
    q = 1 / (1 + math.exp(-0.5))
    divergence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert distillation(student, teacher, 2.0).item() == pytest.approx(4 * divergence, rel=1e-5)
    assert distillation(student, student, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_hits_among_the_best():
    logits = torch.tensor([[0.1, 0.5, 0.3], [0.9, 0.2, 0.8], [0.0, 0.1, 0.2]])
    labels = torch.tensor([2, 0, 0])
    assert topk_hits(logits, labels, 1) == 1
    assert topk_hits(logits, labels, 2) == 2
    assert topk_hits(logits, labels, 5) == 3


# --- a run ------------------------------------------------------------------------------------


def test_a_run_leaves_everything_behind(finished):
    assert {path.name for path in finished.folder.iterdir()} == {
        "config.yaml", "classes.json", "train.log", "history.json", "curves.png", "last.ckpt",
        "best.safetensors",
    }  # fmt: skip
    assert [entry["step"] for entry in history(finished.folder)] == ["activations", "binary"]
    assert finished.best_epoch == 2
    line = (finished.folder / "train.log").read_text().splitlines()[-1]
    assert f"val top-1 {finished.best_top1:.3f}  val top-5 1.000  best" in line
    assert "images/s" in line
    header = read_header(finished.model)
    assert header["kind"] == "classifier"
    assert header["classes"] == ["class0", "class1", "class2"]
    assert header["preprocessing"]["short_side"] == 16
    assert header["training"]["val_top1"] == finished.best_top1
    assert header["training"]["val_top5"] == 1.0


def test_the_saved_classifier_scores_what_the_run_says(finished, tree):
    loaded = load_classifier(finished.model)
    data = ClassificationData(tiny(tree).data)
    reestimated = load_classifier(finished.model).model
    reestimate_batchnorm(
        reestimated,
        (batch["image"] for batch in data.calibration_batches()),
        loaded.preprocessing.normalize,
    )
    right = count = 0
    for batch in data.val_dataloader():
        images = loaded.preprocessing.normalize(batch["image"])
        with torch.no_grad():
            logits = loaded.model(images)
            torch.testing.assert_close(logits, reestimated.eval()(images))
        right += (logits.argmax(dim=1) == batch["label"]).sum().item()
        count += len(images)
    assert count == 12
    assert right / count == finished.best_top1


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_pretraining import tiny
from binseg.training.checkpoints import Checkpoints
from binseg.training.pretraining import pretrain

save = Checkpoints._save
def save_and_die(self, trainer):
    save(self, trainer)
    if trainer.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoints._save = save_and_die
pretrain(tiny(Path({tree!r}), checkpoint_minutes=0.0), Path({folder!r}))
"""


def test_a_killed_run_goes_on_bit_for_bit(finished, tree, tmp_path):
    folder = tmp_path / "run"
    script = KILLED.format(here=str(Path(__file__).parent), tree=str(tree), folder=str(folder))
    died = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    resumed = pretrain(tiny(tree), folder, resume=True)
    one, other = state(finished.folder), state(folder)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert history(finished.folder) == history(folder)
    assert resumed.model.read_bytes() == finished.model.read_bytes()


def test_a_run_through_the_loader_learns_from_a_teacher(finished, tree, tmp_path):
    experiment = replace(
        tiny(tree, epochs=1, ema=0.0),
        binarization=BinarizationConfig(),
        distillation=DistillationConfig(teacher=finished.model, weight=2.0),
    )
    experiment = replace(experiment, data=replace(experiment.data, in_memory=False, crop="shift"))
    alone = replace(experiment, distillation=DistillationConfig())
    losses = [
        history(pretrain(run, tmp_path / name).folder)[0]["loss"]
        for name, run in (("taught", experiment), ("alone", alone))
    ]
    assert losses[0] > losses[1]


# --- starting other networks ------------------------------------------------------------------


def test_a_segmentation_backbone_starts_from_the_file_and_resumes_without_it(finished, tmp_path):
    weights = tmp_path / "pretrained.safetensors"
    shutil.copy(finished.model, weights)
    experiment = segmentation(epochs=1)
    experiment = replace(
        experiment,
        model=ModelConfig(
            "groupnet18_star",
            backbone_weights=weights,
            bases=3,
            width=8,
            output_stride=16,
            atrous="bpac",
            downsample="real",
            head="fcn8s",
        ),
        optimizer=OptimizerConfig(lr=1e-20),
        binarization=BinarizationConfig(),
    )
    result = train(experiment, tmp_path / "run")
    started = load(result.model).model.backbone.state_dict()
    theirs = load_classifier(weights).model.backbone.state_dict()
    name = "stages.2.0.unit1.0.weight"
    assert torch.equal(started[name][: len(theirs[name])], theirs[name])
    weights.unlink()
    longer = replace(experiment, trainer=replace(experiment.trainer, epochs=2))
    train(longer, tmp_path / "run", resume=True)


def test_the_same_backbone_gives_the_same_maps(finished):
    source = load_classifier(finished.model).model
    target = create_model(**classifier_arguments(tiny(Path()).model, 5)).eval()
    start_backbone(target, finished.model, Preprocessing(), seed=0)
    image = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        pairs = zip(source.backbone(image), target.backbone(image), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_a_segmentation_file_starts_a_classifier(finished, tree, tmp_path):
    started = segmentation(epochs=1, ema=0.0)
    started = replace(started, binarization=BinarizationConfig())
    file = train(started, tmp_path / "segmentation").model
    model = ModelConfig("groupnet18", bases=1, width=8, output_stride=32, backbone_weights=file)
    run = replace(
        tiny(tree, epochs=1, ema=0.0),
        model=model,
        optimizer=OptimizerConfig(lr=1e-20),
        binarization=BinarizationConfig(),
    )
    result = pretrain(run, tmp_path / "classifier")
    ours = load_classifier(result.model).model.backbone.stem[0].weight
    assert torch.equal(ours, load(file).model.backbone.stem[0].weight)


def test_weights_go_on_with_the_whole_classifier(finished, tree, tmp_path):
    run = replace(tiny(tree, epochs=1), binarization=BinarizationConfig())
    run = replace(
        run,
        model=replace(run.model, start=str(finished.model)),
        optimizer=OptimizerConfig(lr=1e-20),
    )
    result = pretrain(run, tmp_path / "run")
    theirs = load_classifier(finished.model).model.fc.weight
    assert torch.equal(load_classifier(result.model).model.fc.weight, theirs)


# --- bad input --------------------------------------------------------------------------------


def test_a_misfit_names_the_tensors(finished):
    target = create_model("groupnet18_star", num_classes=5, width=12, downsample="real")
    with pytest.raises(
        BinsegError, match=r"stem\.0\.weight is \(8, 3, 7, 7\), not \(12, 3, 7, 7\)"
    ):
        start_backbone(target, finished.model, Preprocessing(), seed=0)
    target = create_model("groupnet34", num_classes=5, width=8, downsample="real")
    with pytest.raises(BinsegError, match=r"stages\.0\.2\.unit1\.0\.weight is missing.* more"):
        start_backbone(target, finished.model, Preprocessing(), seed=0)


def test_other_normalisation_is_refused(finished):
    target = create_model("groupnet18_star", num_classes=5, width=8)
    with pytest.raises(BinsegError, match=r"normalised with mean .*--data\.mean"):
        start_backbone(target, finished.model, Preprocessing(mean=(0.5, 0.5, 0.5)), seed=0)


def test_a_classifier_opened_as_a_network_says_what_it_is(finished):
    with pytest.raises(BinsegError, match=r"a classifier .*--model\.backbone_weights"):
        load(finished.model)


def test_a_network_opened_as_a_classifier_says_so(tmp_path, tree):
    network = create_model("groupnet18", num_classes=11, width=8, bases=1)
    labels = get_label_table("camvid")
    save(tmp_path / "a.safetensors", network, labels, Preprocessing())
    with pytest.raises(BinsegError, match="no classifier"):
        load_classifier(tmp_path / "a.safetensors")


def test_a_damaged_classifier_header_is_one_line(tmp_path, finished):
    loaded = load_classifier(finished.model)
    loaded.model.architecture = {"name": "groupnet18", "num_classes": "three"}
    save_classifier(tmp_path / "a.safetensors", loaded.model, ["a"], loaded.preprocessing)
    with pytest.raises(BinsegError, match="header is damaged"):
        load_classifier(tmp_path / "a.safetensors")


def test_options_of_heads_are_refused():
    with pytest.raises(BinsegError, match=r"remove dropout, head \("):
        classifier_arguments(ModelConfig(head="fcn8s", dropout=0.1), 10)
    with pytest.raises(BinsegError, match="remove encoder"):
        classifier_arguments(ModelConfig(encoder="resnet34"), 10)


def test_a_teacher_of_other_classes_is_refused(finished, tree, tmp_path):
    other = tmp_path / "tree"
    shutil.copytree(tree, other)
    for split in ("train", "val"):
        (other / split / "class0").rename(other / split / "zero")
    run = replace(tiny(other), distillation=DistillationConfig(teacher=finished.model))
    with pytest.raises(BinsegError, match="trained on other classes"):
        pretrain(run, tmp_path / "run")


@pytest.mark.parametrize("changes", [{"label_smoothing": 1.0}, {"mixup": -1.0}])
def test_losses_out_of_range_are_refused(changes):
    with pytest.raises(BinsegError, match=f"loss.{next(iter(changes))}"):
        ClassificationLossConfig(**changes)
