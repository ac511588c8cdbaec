"""`binseg data show`: the very samples of a training, in picture files."""

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import write_voc

from binseg.cli.data_part import with_data_of_experiment
from binseg.cli.data_show import data_show
from binseg.cli.main import main
from binseg.data.config import DataConfig
from binseg.data.imageio import read_image
from binseg.data.module import SegmentationData
from binseg.visualize import overlay


def config(**changes: object) -> DataConfig:
    settings: dict = {"name": "scenes", "scenes_train": 7, "scenes_val": 3, "batch_size": 3}
    settings |= {"scenes_size": (32, 48), "crop": (40, 36), "workers": 2, "cache": True}
    return DataConfig(**settings | changes)


@pytest.mark.parametrize("epoch", [0, 2])
def test_training_samples_are_those_of_the_epoch(tmp_path: Path, epoch: int) -> None:
    assert data_show(tmp_path, config(), count=5, epoch=epoch) == 0
    data = SegmentationData(config(workers=0))
    for _ in range(epoch + 1):  # a loop of one's own: each pass is an epoch
        batches = list(data.train_dataloader())
    images = np.concatenate([batch["image"].permute(0, 2, 3, 1).numpy() for batch in batches])
    labels = np.concatenate([batch["label"].numpy() for batch in batches])
    names = [name for batch in batches for name in batch["name"]]
    files = sorted(tmp_path.glob("train_*.png"))
    assert [file.name for file in files] == [
        f"train_{number:03d}_{names[number]}.png" for number in range(5)
    ]
    for number, file in enumerate(files):
        picture = read_image(file)
        np.testing.assert_array_equal(picture[:40, :36], images[number])
        colored = overlay(images[number], labels[number], data.labels)
        np.testing.assert_array_equal(picture[:40, 42:78], colored)
        assert picture.shape[0] > 50, "a legend is below"


def test_the_sheet_and_the_printed_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_show(tmp_path, config(), count=100)
    lines = capsys.readouterr().out.split()
    assert lines == [
        str(path) for path in [*sorted(tmp_path.glob("t*.png")), tmp_path / "sheet.png"]
    ]
    assert len(lines) == 7, "six samples in the two whole batches of an epoch"
    assert read_image(tmp_path / "sheet.png").shape == (2 * 46, 3 * (78 + 6), 3)


def test_scored_pictures_are_resized_as_when_scored(tmp_path: Path) -> None:
    write_voc(tmp_path, val=3, size=(41, 60))
    data = config(name="voc", root=str(tmp_path), short_side=64)
    data_show(tmp_path / "out", data, count=2, split="val")
    first, second = sorted((tmp_path / "out").glob("val_*.png"))
    expected = SegmentationData(data).val_set[0]
    assert expected.image.shape == (64, 94, 3)
    np.testing.assert_array_equal(read_image(first)[:64, :94], expected.image)
    assert expected.name in first.name
    assert first.name.split("_", 2)[2] != second.name.split("_", 2)[2]


@pytest.mark.parametrize(("name", "value"), [("count", "0"), ("epoch", "-1")])
def test_impossible_numbers(
    tmp_path: Path, name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "show", "--data.name", "scenes", "--out", str(tmp_path), f"--{name}", value]
    assert main(command) == 1
    assert f"{name} must be at least" in capsys.readouterr().err


EXPERIMENT = """data:
  name: scenes
  crop: [32, 32]
  batch_size: 2
  scenes_size: [32, 48]
model: {name: groupnet18}
trainer: {epochs: 3}
"""


def test_an_experiments_configuration_will_do(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT)
    out = tmp_path / "out"
    command = ["data", "show", "--config", str(path), "--data.batch_size", "3", "--out", str(out)]
    assert main([*command, "--count", "2"]) == 0
    assert len(list(out.iterdir())) == 3


def test_only_an_experiment_is_taken_apart(tmp_path: Path) -> None:
    experiment, plain = tmp_path / "experiment.yaml", tmp_path / "plain.yaml"
    experiment.write_text(EXPERIMENT)
    plain.write_text("data: {name: scenes}\n")
    broken = tmp_path / "broken.yaml"
    broken.write_text("data: [\n")
    for path in (plain, broken, tmp_path / "none.yaml"):
        arguments = ["--config", str(path), "--out", "x"]
        assert with_data_of_experiment(arguments) == [f"--config={path}", "--out", "x"]
    for arguments in (["--config", str(experiment), "--out", "x"], [f"--config={experiment}"]):
        first, second, *rest = with_data_of_experiment(arguments)
        assert first == "--data"
        assert json.loads(second)["crop"] == [32, 32]
        assert rest == arguments[2:]
    assert with_data_of_experiment(["--help"]) == ["--help"]


def test_a_run_folder_brings_its_data(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(EXPERIMENT)
    arguments = [str(tmp_path), "--data.root=elsewhere", "--split", "val"]
    first, option, data, *rest = with_data_of_experiment(arguments)
    assert (first, option, rest) == (str(tmp_path), "--data", arguments[1:])
    assert json.loads(data)["crop"] == [32, 32]
    for more in ("--data.name=scenes", "--config=other.yaml"):
        assert with_data_of_experiment([str(tmp_path), more]) == [str(tmp_path), more]
    # a file of `evaluate`'s own options, whose model is a file
    (tmp_path / "own.yaml").write_text("model: runs/a\ndata: {name: scenes}\n")
    own = [f"--config={tmp_path / 'own.yaml'}"]
    assert with_data_of_experiment(own) == own
