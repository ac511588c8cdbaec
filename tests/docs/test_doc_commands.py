"""What the pages tell people to type works."""

import ast
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from doc_pages import PAGES, README, ROOT, blocks, commands, name, shell_lines

import binseg
from binseg.cli import main
from binseg.data.imageio import write_image
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.data.scenes import draw_scene
from binseg.loaded import save
from binseg.nn.segmenter import create_model

COMMANDS = sorted({command for page in PAGES for command in commands(page)})
LIGHT = (
    "predict street-base street.jpg holiday/ 'frames/*.png' --out segmented",
    "export street-small street-base --format page --out page.html",
    "summary camvid-base",
    "doctor",
)
"""Commands of the README and the how-tos that take no training and no data."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(command, comments=True)
    if "--resume" in arguments:
        pytest.skip("needs a run; tests/training resumes one")
    assert main([*arguments, "--print_config"]) == 0, capsys.readouterr().err


def test_the_usual_jobs_are_in_the_readme():
    named = {command.split()[0] for command in commands(README)}
    assert named >= {"train", "evaluate", "predict", "data", "pack", "export", "compare", "bench"}


@pytest.mark.parametrize("command", LIGHT)
def test_a_light_command_runs(command, tmp_path, monkeypatch, capsys):
    assert command in COMMANDS
    monkeypatch.chdir(tmp_path)
    for path in ("street.jpg", "holiday/one.png", "frames/two.png"):
        write_image(Path(path), draw_scene(0, len(path), (60, 80)).image)
    assert main(shlex.split(command)) == 0, capsys.readouterr().err
    if "--out" in command:
        assert Path(shlex.split(command)[-1]).exists()


def test_what_else_is_typed_is_there():
    """Targets of make, scripts, extras and configurations."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in PAGES:
        text, lines = page.read_text(), "\n".join(shell_lines(page))
        wrong = [each for each in re.findall(r"^make ([\w-]+)", lines, re.M) if each not in targets]
        scripts = re.findall(r"(?:^|-m )python3? ([\w/]+\.py)", lines, re.M)
        wrong += [each for each in scripts if not (ROOT / each).is_file()]
        for named in re.findall(r"(?:binseg|\.)\[([\w,]+)\]", text):
            wrong += [
                each for each in named.split(",") if each not in extras["optional-dependencies"]
            ]
        configs = re.findall(r"configs/[\w/.]+\.yaml", text)
        wrong += [each for each in configs if not (ROOT / each).is_file()]
        assert not wrong, f"{name(page)}: {wrong}"


def test_the_citation_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert f"({project['version']})" in (ROOT / "CHANGELOG.md").read_text()


def test_the_readme_is_short():
    assert len(README.read_text().split()) <= 1200


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_examples_name_what_is_there(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("binseg"):
                exec(ast.unparse(node), {})
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "binseg":
                assert hasattr(binseg, node.attr)


def python_example(page: str, word: str) -> str:
    (example,) = (block for block in blocks(ROOT / page, "python") if word in block)
    return example


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/predict.md"])
def test_the_example_of_the_predictor_runs(page, tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    model = create_model("groupnet18", num_classes=11, bases=2, width=8)
    save("model.safetensors", model, get_label_table("camvid"), Preprocessing(short_side=64))
    write_image("street.jpg", np.full((70, 90, 3), 128, np.uint8))
    names: dict = {}
    exec(python_example(page, "Predictor").replace("camvid-base", "model.safetensors"), names)
    assert names["found"].class_map.shape == (70, 90)
    assert (tmp_path / "street_classes_overlay.jpg").exists()


def test_the_example_with_smp_runs():
    names: dict = {}
    exec(python_example("docs/networks.md", "smp."), names)
    with torch.inference_mode():
        assert names["model"].eval()(torch.randn(1, 3, 64, 32)).shape == (1, 11, 64, 32)


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/own-data.md"])
def test_the_example_of_a_label_table_is_valid(page, tmp_path):
    from binseg.data.labels_yaml import read_labels_yaml

    (example,) = blocks(ROOT / page, "yaml")
    (tmp_path / "labels.yaml").write_text(example)
    table = read_labels_yaml(tmp_path / "labels.yaml")
    assert table.names == ("road", "car", "person")
    assert table.encode(np.array([[7, 27, 2, 0]], np.uint8), "x").tolist() == [[0, 1, 2, 255]]
