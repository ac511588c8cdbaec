"""`binseg evaluate --against` and `--corruptions`: the same figures as scoring one by one."""

import json
from pathlib import Path

import pytest
import torch

from binseg.cli.evaluate import evaluate_command
from binseg.data.config import DataConfig
from binseg.data.corruptions import CORRUPTIONS, CorruptedDataset
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.evaluation.bootstrap import paired_difference
from binseg.loaded import save
from binseg.nn.segmenter import create_model
from binseg.predictor import Predictor

DATA = DataConfig("scenes", scenes_val=6, scenes_size=(32, 48))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two untrained networks that answer differently."""
    folder = tmp_path_factory.mktemp("models")
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        network = create_model("groupnet18", num_classes=8, bases=1, width=8)
        paths.append(folder / f"model{seed}.safetensors")
        save(paths[-1], network, get_label_table("scenes"), Preprocessing(), training={"epochs": 1})
    return paths


def test_against_and_corruptions(
    models: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert evaluate_command(
        models[0], data=DATA, against=models[1], corruptions=True, block=2, out=out, boundary=False
    ) == 0  # fmt: skip
    written = json.loads((out / "scores.json").read_text())
    dataset = DATA.open("val")
    first, second = (
        Predictor(path, device="cpu").evaluate(dataset, boundary_distance=None) for path in models
    )
    expected = paired_difference([[first.counts]], [[second.counts]], block=2)
    against = written["against"]
    assert against["mean_iou"] == second.scores.mean_iou != first.scores.mean_iou
    assert against["difference"] == expected.mean_iou._asdict()
    assert against["difference"]["value"] == pytest.approx(
        first.scores.mean_iou - second.scores.mean_iou
    )
    assert against["bootstrap"] == {"block": 2, "blocks": 3, "draws": 2000}
    assert set(written["corruptions"]) == set(against["corruptions"]) == {"clean", *CORRUPTIONS}
    for path, found in zip(models, (written, against), strict=True):
        name = "noise σ 20"
        noisy = Predictor(path, device="cpu").evaluate(
            CorruptedDataset(dataset, name), boundary_distance=None
        )
        assert found["corruptions"][name]["mean_iou"] == noisy.scores.mean_iou
    shown = capsys.readouterr().out
    assert "against model1.safetensors" in shown
    assert all(name in shown for name in CORRUPTIONS)
    assert shown.count(str(expected.mean_iou)) >= 1


def test_corruptions_alone(models: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_command(models[0], data=DATA, corruptions=True, boundary=False) == 0
    shown = capsys.readouterr().out
    assert "JPEG 20" in shown
    assert "against" not in shown


def test_what_does_not_fit_is_refused_before_scoring(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BinsegError, match="give one"):
        evaluate_command(predictions=tmp_path, data=DATA, corruptions=True)
    with pytest.raises(BinsegError, match="block must be 1 image or more"):
        evaluate_command(models[0], data=DATA, against=models[1], block=0)
    other = tmp_path / "other.safetensors"
    network = create_model("groupnet18", num_classes=11, bases=1, width=8)
    save(other, network, get_label_table("camvid"), Preprocessing(), training={})
    with pytest.raises(BinsegError, match=r"other\.safetensors.*other classes"):
        evaluate_command(models[0], data=DATA, against=other)
