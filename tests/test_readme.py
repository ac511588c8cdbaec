"""What the README tells people to type works."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from binseg.cli import main
from binseg.data.imageio import write_image
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.loaded import save
from binseg.nn.segmenter import create_model

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    """Every `binseg …` line of a shell block, also behind torchrun."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^|-m )binseg (.*)", line) for line in lines]
    return [match[1] for match in found if match]


@pytest.mark.parametrize("command", commands())
def test_every_command_is_understood(command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(command, comments=True)
    if "--resume" in arguments:
        pytest.skip("needs a run; tests/training resumes one")
    status = main([*arguments, "--print_config"])
    assert status == 0, capsys.readouterr().err


def test_there_are_commands():
    assert {command.split()[0] for command in commands()} >= {
        "train",
        "evaluate",
        "predict",
        "data",
    }


def test_the_python_example_runs(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    model = create_model("groupnet18", num_classes=11, bases=2, width=8)
    save("model.safetensors", model, get_label_table("camvid"), Preprocessing(short_side=64))
    write_image("street.jpg", np.full((70, 90, 3), 128, np.uint8))
    (example,) = (block for block in blocks("python") if "Predictor" in block)
    names: dict = {}
    exec(example, names)
    assert names["found"].class_map.shape == (70, 90)
    assert (tmp_path / "street_classes_overlay.jpg").exists()


def test_the_example_with_smp_runs():
    (example,) = (block for block in blocks("python") if "smp." in block)
    names: dict = {}
    exec(example, names)
    with torch.inference_mode():
        assert names["model"].eval()(torch.randn(1, 3, 64, 32)).shape == (1, 11, 64, 32)


def test_the_label_table_example_is_valid(tmp_path):
    from binseg.data.labels_yaml import read_labels_yaml

    (example,) = blocks("yaml")
    (tmp_path / "labels.yaml").write_text(example)
    table = read_labels_yaml(tmp_path / "labels.yaml")
    assert table.names == ("road", "car", "person")
    assert table.encode(np.array([[7, 27, 2, 0]], np.uint8), "x").tolist() == [[0, 1, 2, 255]]


def test_every_config_named_is_there():
    for path in re.findall(r"configs/[\w/.]+\.yaml", README):
        assert (ROOT / path).exists(), path
