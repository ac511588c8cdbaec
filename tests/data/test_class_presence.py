"""Data that nothing can be learnt from, or scored on, is refused before the first step."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from binseg.cli import main
from binseg.data.check import check_dataset
from binseg.data.config import DataConfig
from binseg.data.merge_config import MergeConfig
from binseg.data.module import SegmentationData
from binseg.errors import BinsegError


def write(root: Path, labels: str, train: list[list[int]], val: list[list[int]]) -> DataConfig:
    """Masks of one row of raw ids each, and images that all differ."""
    rng = np.random.default_rng(0)
    for split, masks in (("train", train), ("val", val)):
        for number, ids in enumerate(masks):
            for kind, pixels in (
                ("images", rng.integers(0, 256, (16, len(ids) * 8, 3), np.uint8)),
                ("masks", np.repeat(np.repeat([ids], 8, axis=1), 16, axis=0).astype(np.uint8)),
            ):
                path = root / kind / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    (root / "labels.yaml").write_text(labels)
    return DataConfig("folder", str(root), crop=(8, 8), batch_size=1)


def refused(config: DataConfig) -> str:
    with pytest.raises(BinsegError) as caught:
        SegmentationData(config).require_labels()
    assert "\n" not in str(caught.value)
    # the check of the whole set finds the same words
    assert str(caught.value) in [
        fault.text for fault in check_dataset(config).faults if fault.kind == "classes"
    ]
    return str(caught.value)


def passes(config: DataConfig) -> None:
    SegmentationData(config).require_labels()
    assert [fault.text for fault in check_dataset(config).faults if fault.kind == "classes"] == []


def test_masks_of_0_and_255(tmp_path: Path) -> None:
    config = write(tmp_path, "classes: [background, car]\n", [[0, 255], [0, 0]], [[0, 255]])
    said = refused(config)
    assert "train: class 'car' without a pixel in any of 2 masks" in said
    assert "write `{name: car, id: 255}` in labels.yaml" in said
    assert "--data.allow_missing_classes true" in said
    # and that is the remedy
    (tmp_path / "labels.yaml").write_text("classes: [background, {name: car, id: 255}]\n")
    passes(config)


@pytest.mark.parametrize(
    ("labels", "train"),
    [
        ("classes: [a, b, c]\n", [[0, 1], [1, 255]]),  # 255 beside other ids
        ("classes: [a, b]\n", [[0, 0], [0, 0]]),  # no 255 at all
        ("classes: [a, b]\nignore: [7, 255]\n", [[0, 7], [0, 255]]),
        ("classes: [{name: a, id: 1}, {name: b, id: 2}]\nignore: [0, 255]\n", [[1, 0]]),
        ("classes: [{name: a, id: [0, 1]}, {name: b, id: 2}]\n", [[1, 255]]),
    ],
)
def test_other_missing_classes_get_another_remedy(
    tmp_path: Path, labels: str, train: list[list[int]]
) -> None:
    said = refused(write(tmp_path, labels, train, [[1, 1]] if "[a, b]" not in labels else [[0, 0]]))
    assert "without a pixel" in said
    assert "id: 255" not in said
    assert "label it, or leave it out of labels.yaml" in said


def test_several_missing_classes_and_the_switch(tmp_path: Path) -> None:
    config = write(tmp_path, "classes: [a, b, c, d]\n", [[0, 2]], [[0, 1]])
    assert "classes 'b', 'd' without a pixel in any of 1 masks; label them" in refused(config)
    config.allow_missing_classes = True
    passes(config)
    report = check_dataset(config)
    assert [warning.kind for warning in report.warnings if warning.kind == "classes"] == [
        *["classes"] * 2
    ]


def test_a_class_only_val_lacks_is_a_warning(tmp_path: Path) -> None:
    config = write(tmp_path, "classes: [a, b, c]\n", [[0, 1], [2, 0]], [[1, 0]])
    passes(config)
    (warning,) = [one for one in check_dataset(config).warnings if one.kind == "classes"]
    assert warning.text == "val: no pixel of 'c' in any of 1 masks; it is not scored there"


def test_one_class(tmp_path: Path) -> None:
    config = write(tmp_path, "classes: [car]\n", [[0, 255]], [[0, 255]])
    said = refused(config)
    assert "has one class only, 'car'" in said
    assert "`classes: [background, {name: car, id: 255}]`" in said
    config.allow_missing_classes = True
    refused(config)
    config = write(tmp_path, "classes: [a, b]\n", [[0, 1]], [[0, 1]])
    config.classes = ["a"]
    assert "has one class only, 'a'" in refused(config)


def test_nothing_to_score(tmp_path: Path) -> None:
    config = write(tmp_path, "classes: [a, b]\n", [[0, 1]], [[255, 255], [255, 255]])
    said = refused(config)
    assert "val: all pixels of its 2 masks are ignored, so nothing can be scored" in said
    assert "(255)" in said
    config.allow_missing_classes = True
    refused(config)


@pytest.mark.parametrize("split", ["val", "train"])
def test_evaluate_refuses_a_split_without_a_labelled_pixel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    data, masks, out = tmp_path / "data", tmp_path / "masks", tmp_path / "out"
    ignored = [[255, 255], [255, 255]]
    labelled = [[0, 1], [1, 0]]
    write(data, "classes: [a, b]\n", *((ignored, labelled)[:: 1 if split == "train" else -1]))
    masks.mkdir()
    for number in range(2):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(masks / f"{number}.png")
    command = ["evaluate", "--data.name", "folder", "--data.root", str(data), "--split", split]
    command += ["--predictions", str(masks), "--out", str(out)]
    assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "all pixels of its 2 masks are ignored, so nothing can be scored" in line
    assert not out.exists()
    other = "val" if split == "train" else "train"
    assert main([other if each == split else each for each in command]) == 0


def test_reading_stops_when_every_class_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path, "classes: [a, b]\n", [[0, 1]] * 30 + [[0, 0]] * 30, [[0, 1]] * 30)
    data = SegmentationData(config)
    read: list[str] = []
    for dataset in (data.train_set.dataset, data.val_set.dataset):
        original = dataset.read_labels
        monkeypatch.setattr(
            dataset,
            "read_labels",
            lambda index, original=original: read.append("x") or original(index),
        )
    data.require_labels()
    assert 2 <= len(read) < 10


def test_a_class_that_a_merged_set_has(tmp_path: Path) -> None:
    config = write(tmp_path / "ours", "classes: [a, b, c]\n", [[0, 1]], [[0, 1]])
    assert "class 'c' without a pixel in any of 1 masks" in refused(config)
    write(tmp_path / "theirs", "classes: [a, b, c]\n", [[2, 2]], [[0, 1]])
    config.merge = [MergeConfig("folder", str(tmp_path / "theirs"))]
    passes(config)


def test_drawn_scenes_need_no_look() -> None:
    config = DataConfig("scenes", scenes_train=1, scenes_val=1, scenes_size=(32, 32))
    passes(config)


def test_train_refuses_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "data", "classes: [background, car]\n", [[0, 255]] * 2, [[0, 255]])
    out = tmp_path / "run"
    arguments = ["train", "--data.name", "folder", "--data.root", str(tmp_path / "data")]
    assert main([*arguments, "--data.crop", "[8,8]", "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("binseg: error: train: class 'car' without a pixel")
    assert not (out / "last.ckpt").exists()
