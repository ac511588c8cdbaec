"""Several data sets in one training: classes, repetitions, names, sizes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from binseg.data.check import check_dataset
from binseg.data.config import DataConfig
from binseg.data.imageio import write_image, write_mask
from binseg.data.labels import IGNORE, class_lookup, get_label_table
from binseg.data.merge_config import MergeConfig
from binseg.data.module import SegmentationData
from binseg.errors import BinsegError

COLORS = {"road": (10, 20, 30), "car": (200, 0, 0), "lawn": (0, 180, 0), "street": (90, 90, 90)}


def folder(root: Path, classes: list[str], count: int, size: tuple[int, int] = (24, 40)) -> Path:
    """A folder data set whose image n shows class n (in turns) in one colour, with noise."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    names = [f"img{n}" for n in range(count)]
    for number, name in enumerate(names):
        train = number % len(classes)
        color = np.array(COLORS[classes[train]], np.uint8)
        noise = np.random.default_rng(number + 1000 * count).integers(0, 20, (*size, 3), np.uint8)
        write_image(root / "images" / f"{name}.png", color + noise)
        write_mask(root / "masks" / f"{name}.png", np.full(size, train, np.uint8))
    (root / "labels.yaml").write_text(f"classes: [{', '.join(classes)}]\n")
    (root / "train.txt").write_text("\n".join(names[:-1]) + "\n")
    (root / "val.txt").write_text(names[-1] + "\n")
    return root


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """Four images of road and car, twice an epoch, with six of another folder, once."""
    ours = folder(tmp_path / "ours", ["road", "car"], 5)
    theirs = folder(tmp_path / "theirs", ["street", "lawn", "car"], 7, (20, 20))
    other = MergeConfig(
        "folder", str(theirs), labels={"street": "road", "lawn": None}, stretch=2.0, short_side=16
    )
    return DataConfig(
        "folder", str(ours), merge=[other], repeat=2, crop=(16, 24), batch_size=7, short_side=24
    )


def test_an_epoch_shows_all_samples_as_often_as_asked(config: DataConfig) -> None:
    data = SegmentationData(config)
    names = Counter(name for batch in data.train_dataloader() for name in batch["name"])
    ours = [f"img{n}" for n in range(4)]
    theirs = [f"folder1-img{n}" for n in range(6)]
    assert names == Counter(ours + [f"{name}#2" for name in ours] + theirs)


def test_classes_become_ours(config: DataConfig) -> None:
    training = SegmentationData(config).training
    found = {training.name(place): set(training.labels(place).flat) for place in range(10)}
    assert [found[f"img{n}"] for n in range(4)] == [{0}, {1}, {0}, {1}]
    # street, lawn, car
    assert [found[f"folder1-img{n}"] for n in range(6)] == [{0}, {IGNORE}, {1}] * 2


def test_images_are_stretched_and_labels_follow(config: DataConfig) -> None:
    training = SegmentationData(config).training
    for place in range(len(training)):
        sample = training[place]
        assert sample.image.shape[:2] == sample.labels.shape == training.size(place)
        assert training.size(place) == ((24, 40) if place < 4 else (16, 32))
        assert training.labels(place).shape == training.size(place)


def calibrated(config: DataConfig) -> list[str]:
    batches = SegmentationData(config).calibration_batches()
    return sorted(name for batch in batches for name in batch["name"])


def test_statistics_are_of_all_data_sets_by_their_shares_of_an_epoch(config: DataConfig) -> None:
    ours, theirs = [f"img{n}" for n in range(4)], [f"folder1-img{n}" for n in range(6)]
    assert calibrated(config) == sorted([*ours, *theirs])
    # an epoch shows our four images twice, and theirs once
    assert calibrated(replace(config, calibration_images=7)) == sorted([*ours, *theirs[::2]])
    assert calibrated(replace(config, calibration_images=1)) == ["folder1-img0", "img0"]


def test_scored_are_our_images_alone(config: DataConfig) -> None:
    data = SegmentationData(config)
    assert [name for batch in data.val_dataloader() for name in batch["name"]] == ["img4"]
    assert data.in_words().startswith(
        "ours: 4 images, 2 times an epoch + folder: 6 images for training, 1 image for scoring"
    )


def test_frequencies_count_what_an_epoch_shows(config: DataConfig) -> None:
    pixels, present = SegmentationData(config).class_frequencies()
    ours, theirs = 24 * 40, 16 * 32
    assert pixels.tolist() == [2 * 2 * ours + 2 * theirs] * 2
    assert present.tolist() == pixels.tolist()


def test_crop_geometry_finds_repeated_samples(config: DataConfig) -> None:
    data = SegmentationData(config)
    first, second = (data.crop_geometry(name, 0) for name in ("img1", "img1#2"))
    assert first.place == second.place == 1
    assert (first.window, first.flipped) != (second.window, second.flipped)
    assert data.crop_geometry("folder1-img0", 0).place == 4
    assert data.crop_geometry("folder1-img0", 0).size == (16, 32)


def test_data_check_reads_merged_sets(config: DataConfig) -> None:
    report = check_dataset(config)
    assert report.splits["merge 1, folder"].samples == 6
    # two images show lawn alone, which is ignored on purpose
    assert report.faults == []
    assert report.splits["merge 1, folder"].pixels.tolist() == [2 * 400, 2 * 400, 2 * 400]


def test_cityscapes_merges_into_camvid() -> None:
    camvid, cityscapes = get_label_table("camvid"), get_label_table("cityscapes")
    lookup = class_lookup(cityscapes, camvid, remedy="")
    # by hand, from the two sets' definitions of their classes
    expected = "road pavement building building fence pole sign sign tree - sky pedestrian"
    expected += " bicyclist car car car car bicyclist bicyclist"
    names = ["-" if new == IGNORE else camvid.names[new] for new in lookup[:19]]
    assert names == expected.split()
    assert set(lookup[19:]) == {IGNORE}
    some = class_lookup(cityscapes, camvid.subset(["road", "car"]), remedy="")
    kept = {cityscapes.names[train]: int(new) for train, new in enumerate(some) if new != IGNORE}
    assert kept == {"road": 0, "car": 1, "truck": 1, "bus": 1, "train": 1}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "2 classes of 'theirs' have no class of the same name in 'ours': street, lawn; say"),
        ({"street": "road"}, "1 classes of 'theirs'.*: lawn"),
        ({"stret": "road"}, "stret.*street"),
        ({"street": "raod", "lawn": None}, "raod.*road"),
    ],
)
def test_a_mapping_with_a_hole_or_a_typo_is_refused(
    config: DataConfig, labels: dict[str, str | None] | None, message: str
) -> None:
    config.merge[0].labels = labels
    with pytest.raises(BinsegError, match=message):
        _ = SegmentationData(config).training


@pytest.mark.parametrize(
    ("key", "value"), [("repeat", 0), ("repeat", 1001), ("stretch", 0.0), ("stretch", 11.0)]
)
def test_values_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(BinsegError, match=rf"data\.merge: {key}: {value} must be from"):
        MergeConfig("scenes", **{key: value})  # type: ignore[arg-type]
    with pytest.raises(BinsegError, match=rf"data\.{key}: {value} must be from"):
        DataConfig("scenes", **{key: value})  # type: ignore[arg-type]
