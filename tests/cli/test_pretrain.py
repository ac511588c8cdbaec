"""`binseg pretrain` and what the other commands say of its files."""

from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from binseg.cli import main
from binseg.cli.pretrain import pretrain
from binseg.loaded import read_header
from binseg.nn.classifier import create_classifier
from binseg.training.pretraining_config import Pretraining, classifier_arguments

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "pretrain").glob("*.yaml"))


@pytest.fixture
def tree(tmp_path):
    for split in ("train", "val"):
        for label in range(2):
            folder = tmp_path / "tree" / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(4):
                image = np.full((16, 16, 3), 60 * number + label, np.uint8)
                Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "tree"


def arguments(tree: Path, out: Path) -> list[str]:
    return [
        "pretrain", "--out", str(out), "--data.root", str(tree), "--data.size", "16",
        "--data.batch_size", "4", "--model.bases", "1", "--model.width", "8",
        "--model.output_stride", "16", "--trainer.epochs", "1", "--trainer.threads", "1",
    ]  # fmt: skip


def test_it_writes_a_file_that_other_commands_explain(tree, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(arguments(tree, out)) == 0
    captured = capsys.readouterr()
    assert "best val top-1" in captured.out
    weights = out / "best.safetensors"
    assert f"--model.backbone_weights {weights}" in captured.out
    assert read_header(weights)["kind"] == "classifier"

    assert main(["pack", str(weights), "--out", str(tmp_path / "packed.safetensors")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a classifier from `binseg pretrain`" in error
    assert f"--model.backbone_weights {weights}" in error

    assert main(arguments(tree, out)) == 1
    assert "--resume" in capsys.readouterr().err
    # the run's own configuration, with one more epoch
    assert main(["pretrain", "--resume", "--out", str(out), "--trainer.epochs", "2"]) == 0
    assert "epoch 2/2" in (out / "train.log").read_text()


def test_wrong_options_are_one_line(tree, tmp_path, capsys):
    assert main([*arguments(tree, tmp_path / "run"), "--model.head", "fcn8s"]) == 1
    assert "a classifier has no head" in capsys.readouterr().err
    assert main([*arguments(tree, tmp_path / "run"), "--loss.mixpu", "1"]) == 2
    assert "did you mean 'loss.mixup'" in capsys.readouterr().err
    assert main(["pretrain", "--resume", "--out", str(tmp_path / "nowhere")]) == 1
    assert "there is no run to resume" in capsys.readouterr().err


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(pretrain, fail_untyped=True, skip={"resume"})
    values = parser.instantiate(parser.parse_args(["--config", str(path), "--out", "x"]))
    parts = {k: v for k, v in values.items(branches=True) if k not in ("out", "config")}
    known = Pretraining.__dataclass_fields__
    pretraining = Pretraining(**{k: v for k, v in parts.items() if k in known})
    network = create_classifier(**classifier_arguments(pretraining.model, 10))
    assert network.fc.out_features == 10
