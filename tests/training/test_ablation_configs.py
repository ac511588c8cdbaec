"""Each configuration under configs/ablations/ changes what its name says, and nothing else."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from parsed_configs import parsed

from binseg.nn.segmenter import create_model
from binseg.training.config import ModelConfig

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "ablations"

# What each name promises; where base.yaml has that value already, the file is base.yaml's twin.
PROMISED = {
    "base": {},
    "lbd": {"decomposition": "layer"},
    "gbd_v1": {"group_blocks": 1, "gates": "none"},
    "gbd_v2": {"group_blocks": 2, "gates": "none"},
    "gbd_v3": {"group_blocks": 0, "gates": "none"},
    "gates_off": {"gates": "none"},
    "gates_shared": {"gates": "shared"},
    "lambda_mean": {"merge": "mean"},
    "k1": {"bases": 1},
    "k2": {"bases": 2},
    "k4": {"bases": 4},
    "k5": {"bases": 5},
    "k8": {"bases": 8},
    "relu": {"nonlinearity": "relu"},
    "tanh": {"nonlinearity": "tanh"},
    "prelu": {"nonlinearity": "prelu"},
    "shortcut_block": {"shortcut": "block"},
    "shortcut_conv": {"shortcut": "conv"},
    "bpac": {"atrous": "bpac"},
    "one_rate": {"atrous": "one_rate"},
    "bpac_off": {"atrous": "off"},
    "downsample_binary": {"downsample": "binary"},
    "downsample_real": {"downsample": "real"},
    "pretraining_on": {"backbone_weights": "runs/pretrain/best.safetensors"},
    "pretraining_off": {"backbone_weights": None},
    "scale_none": {"scale": "none"},
    "scale_layer": {"scale": "layer"},
    "approx_sign": {"gradient": "approx"},
    "ste": {"gradient": "ste"},
}

every_ablation = pytest.mark.parametrize("name", PROMISED)


def lines(name: str) -> list[str]:
    """The file without the comment at its head."""
    text = (FOLDER / f"{name}.yaml").read_text().splitlines()
    return [line for line in text if not line.startswith("#")]


def test_every_file_is_in_the_table():
    assert {path.stem for path in FOLDER.iterdir()} == PROMISED.keys()


@every_ablation
def test_only_what_the_name_promises_differs_from_the_base(name):
    base = parsed(FOLDER / "base.yaml")
    expected = {**base, "model": {**base["model"], **PROMISED[name]}}
    assert parsed(FOLDER / f"{name}.yaml") == expected


@every_ablation
def test_the_text_differs_in_these_lines_alone_and_explains_each(name):
    pairs = list(zip(lines("base"), lines(name), strict=True))
    keys = [theirs.split(":")[0].strip() for ours, theirs in pairs if ours != theirs]
    assert set(keys) <= PROMISED[name].keys()
    assert len(keys) == len(set(keys))
    assert all("  # " in theirs for _, theirs in pairs if not theirs.endswith(":"))
    comments = [{line.split("  # ")[-1] for line in pair if "  # " in line} for pair in pairs]
    assert all(len(comment) <= 1 for comment in comments)


@every_ablation
def test_the_head_of_the_file_names_it(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert f"--config configs/ablations/{name}.yaml --out runs/ablations/{name}\n" in text
    same = lines(name) == lines("base")
    assert ("# This is what base.yaml does." in text) == (same and name != "base")
    told = re.findall(r"model\.(\w+)", text.split("data:")[0])
    base = yaml.safe_load("\n".join(lines("base")))["model"]
    assert told == [key for key, value in PROMISED[name].items() if base[key] != value]


@every_ablation
@torch.inference_mode()
def test_the_network_builds_and_runs(name):
    model = ModelConfig(**yaml.safe_load("\n".join(lines(name)))["model"])
    network = create_model(**{**model.arguments(num_classes=11), "width": 8}).eval()
    options = network.backbone.options
    assert all(
        getattr(options, key) == value
        for key, value in PROMISED[name].items()
        if key != "backbone_weights"
    )
    assert network(torch.randn(1, 3, 45, 61)).shape == (1, 11, 45, 61)


def test_the_base_is_the_recipe_of_camvid():
    base = dict(parsed(FOLDER / "base.yaml"))
    recipe = dict(parsed(ROOT / "configs" / "camvid" / "groupnet18_bpac.yaml"))
    told = {key: value for key, value in recipe.pop("model").items() if value is not None}
    model = base.pop("model")
    assert {key: model[key] for key in told} == told
    assert base == recipe
