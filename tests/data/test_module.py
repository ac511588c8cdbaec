"""Loaders: layout of batches, workers, processes, calibration, class counts, readable errors."""

import functools
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from binseg.data.batch_sampler import CalibrationBatches, OrderedBatches, TrainBatches
from binseg.data.config import DataConfig
from binseg.data.imageio import read_mask, write_image, write_mask
from binseg.data.loader import Loader
from binseg.data.module import SegmentationData
from binseg.errors import BinsegError


def scenes(**changes: object) -> SegmentationData:
    settings: dict = {"crop": (32, 40), "batch_size": 3, "scenes_train": 7, "scenes_val": 5}
    return SegmentationData(
        DataConfig("scenes", **(settings | {"scenes_size": (36, 48)} | changes))
    )


def as_rank(data: SegmentationData, rank: int, world_size: int) -> SegmentationData:
    """As if process `rank` of several had the module; no processes are started."""
    progress = SimpleNamespace(total=SimpleNamespace(processed=0))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=rank, world_size=world_size, limit_train_batches=1.0, fit_loop=loop
    )
    return data


def test_training_batch_layout() -> None:
    data = scenes()
    batches = list(data.train_dataloader())
    assert len(batches) == 2
    for batch in batches:
        assert set(batch) == {"image", "label", "name"}
        image, label = batch["image"], batch["label"]
        assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, 3, 32, 40))
        assert image.is_contiguous(memory_format=torch.channels_last)
        assert (label.dtype, tuple(label.shape)) == (torch.uint8, (3, 32, 40))
        assert len(batch["name"]) == 3
        normalized = data.preprocessing.normalize(image)
        assert normalized.is_contiguous(memory_format=torch.channels_last)


def test_runs_of_other_seeds_see_the_same_images_in_other_orders_and_crops() -> None:
    seen = {}
    for seed in (0, 1, 2):
        data = SegmentationData(scenes().config, seed)
        batches = list(data.train_dataloader())
        names = [name for batch in batches for name in batch["name"]]
        crop = data.crop_geometry(data.training.draw_name(0), 0).window
        scored = [batch["image"].numpy().tobytes() for batch in data.val_dataloader()]
        seen[seed] = names, crop, scored
    plain = list(scenes().train_dataloader())
    assert seen[0][0] == [name for batch in plain for name in batch["name"]]
    for part in (0, 1):
        assert len({str(each[part]) for each in seen.values()}) == 3
    assert seen[0][2] == seen[1][2] == seen[2][2]


def test_epochs_differ_and_are_reproducible() -> None:
    first, second = scenes().train_dataloader(), scenes().train_dataloader()
    epochs = [[batch["image"].numpy().tobytes() for batch in first] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert epochs == [[batch["image"].numpy().tobytes() for batch in second] for _ in range(2)]


@pytest.mark.parametrize("cache", [True, False])
def test_workers_change_nothing(cache: bool) -> None:
    loaders = [scenes(workers=n, cache=cache).train_dataloader() for n in (0, 2)]
    for _ in range(2):
        plain, parallel = (list(loader) for loader in loaders)
        assert len(plain) == len(parallel) == 2
        for one, other in zip(plain, parallel, strict=True):
            assert one["name"] == other["name"]
            assert torch.equal(one["image"], other["image"])
            assert torch.equal(one["label"], other["label"])
            assert other["image"].is_contiguous(memory_format=torch.channels_last)


def test_cached_samples_are_those_of_the_data_set() -> None:
    cached, plain = scenes(cache=True), scenes(cache=False)
    for _ in range(2):
        for index in range(7):
            for one, other in zip(cached.train_set[index], plain.train_set[index], strict=True):
                assert np.array_equal(one, other)


def test_labels_keep_their_resolution_when_scoring(camvid: Path) -> None:
    data = SegmentationData(DataConfig("camvid", str(camvid), short_side=12, val_batch_size=2))
    for _ in range(2):  # drawn, then from the cache
        batches = list(data.val_dataloader())
        assert [tuple(batch["image"].shape) for batch in batches] == [
            (2, 3, 12, 16),
            (1, 3, 12, 16),
        ]
        assert [tuple(batch["label"].shape) for batch in batches] == [(2, 24, 32), (1, 24, 32)]
        assert [name for batch in batches for name in batch["name"]] == ["val0", "val1", "val2"]
    assert data.train_set[0].labels.shape == (12, 16)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_every_scored_image_is_in_one_process_once(world_size: int) -> None:
    names = []
    for rank in range(world_size):
        loader = as_rank(scenes(val_batch_size=2), rank, world_size).val_dataloader()
        batches = [batch["name"] for batch in loader]
        assert len(batches) == len(loader)
        names += [name for batch in batches for name in batch]
    assert sorted(names) == [f"val_{n:05d}" for n in range(5)]


def test_training_shards_are_disjoint_and_equally_long() -> None:
    def keys(rank: int) -> list[list[tuple[int, int]]]:
        at = functools.partial(tuple, (4, 0))
        return list(TrainBatches(23, 3, 0, rank=rank, world_size=2, position=at))

    first, second = keys(0), keys(1)
    assert len(first) == len(second) == 3
    indices = [index for batch in first + second for _, index in batch]
    assert len(set(indices)) == len(indices) == 18
    assert {epoch for batch in first for epoch, _ in batch} == {4}
    whole = list(TrainBatches(23, 6, 0, position=lambda: (4, 0)))
    together = [a + b for a, b in zip(first, second, strict=True)]
    assert together == whole, "two processes see the batches of one, halved"


def test_resumed_order_is_the_rest_of_the_epoch() -> None:
    whole = list(TrainBatches(20, 3, 1, position=lambda: (2, 0)))
    sampler = TrainBatches(20, 3, 1, position=lambda: (2, 4))
    assert list(sampler) == whole[4:]
    assert len(sampler) == len(whole), "Lightning measures the epoch by its whole length"


def test_set_smaller_than_a_batch_is_an_error() -> None:
    with pytest.raises(BinsegError, match=r"7 images.*batch of 8.*data.batch_size"):
        scenes(batch_size=8).train_dataloader()
    with pytest.raises(BinsegError, match="each of 3 processes"):
        as_rank(scenes(), 0, 3).train_dataloader()


def test_unequal_sizes_in_a_scoring_batch_name_files_and_option(tmp_path: Path) -> None:
    for n, size in enumerate([(20, 20), (20, 24)]):
        for split in ("train", "val"):
            write_image(tmp_path / f"images/{split}/{n}.png", np.zeros((*size, 3), np.uint8))
            write_mask(tmp_path / f"masks/{split}/{n}.png", np.zeros(size, np.uint8))
    (tmp_path / "labels.yaml").write_text("classes: [a]\n")
    config = DataConfig("folder", str(tmp_path), val_batch_size=2, crop=(16, 16), batch_size=1)
    with pytest.raises(BinsegError, match=r"'0' and '1' differ .*data.val_batch_size"):
        list(SegmentationData(config).val_dataloader())
    config.val_batch_size = 1
    assert len(list(SegmentationData(config).val_dataloader())) == 2


# --- calibration ---------------------------------------------------------------------------------


def test_calibration_uses_evenly_spaced_whole_images() -> None:
    data = scenes(scenes_train=20, calibration_images=10)
    batches = list(data.calibration_batches())
    assert [len(batch["name"]) for batch in batches] == [3, 3, 2, 2]
    assert sorted(n for b in batches for n in b["name"]) == [
        f"train_{n:05d}" for n in range(0, 20, 2)
    ]
    for batch in batches:
        assert tuple(batch["image"].shape[2:]) == (36, 48)
        for image, name in zip(batch["image"], batch["name"], strict=True):
            expected = data.train_set[int(name[-5:])].image
            assert np.array_equal(image.permute(1, 2, 0).numpy(), expected), "augmented"
    again = [batch["name"] for batch in data.calibration_batches()]
    assert again == [batch["name"] for batch in batches]


def test_calibration_batches_are_shared_out() -> None:
    whole = [batch["name"] for batch in scenes().calibration_batches()]
    parts = [as_rank(scenes(), rank, 2).calibration_batches() for rank in range(2)]
    names = [[batch["name"] for batch in part] for part in parts]
    assert names[0] == whole[0::2]
    assert names[1] == whole[1::2]
    assert len(CalibrationBatches([3], 4, 1, 2)) == 0


def test_calibration_crops_images_of_different_sizes(tmp_path: Path) -> None:
    for n, size in enumerate([(20, 40), (40, 20), (10, 12)]):
        for split in ("train", "val"):
            write_image(tmp_path / f"images/{split}/{n}.png", np.full((*size, 3), n, np.uint8))
            write_mask(tmp_path / f"masks/{split}/{n}.png", np.zeros(size, np.uint8))
    (tmp_path / "labels.yaml").write_text("classes: [a]\n")
    config = DataConfig("folder", str(tmp_path), crop=(16, 18), batch_size=3)
    (batch,) = SegmentationData(config).calibration_batches()
    assert tuple(batch["image"].shape) == (3, 3, 16, 18)
    for image, name in zip(batch["image"], batch["name"], strict=True):
        assert (image == int(name)).all(), "padded, or images mixed up"


# --- class counts --------------------------------------------------------------------------------


def test_class_frequencies_against_a_hand_count(tmp_path: Path) -> None:
    masks = {
        "a": [[0, 0, 0, 11], [1, 1, 11, 11]],  # 3 sky, 2 building, 3 void
        "b": [[0, 0, 0, 0], [2, 0, 0, 0]],  # 7 sky, 1 pole
    }
    for split in ("train", "val"):
        for name, ids in masks.items():
            mask = np.array(ids, np.uint8)
            write_image(tmp_path / split / f"{name}.png", np.zeros((2, 4, 3), np.uint8))
            (tmp_path / f"{split}annot").mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / f"{split}annot/{name}.png")
    data = SegmentationData(DataConfig("camvid", str(tmp_path), batch_size=1))
    for _ in range(2):
        counts = data.class_frequencies()
        assert counts.pixels.dtype == np.int64
        assert counts.pixels.tolist() == [10, 2, 1] + [0] * 8
        assert counts.present_pixels.tolist() == [13, 5, 8] + [0] * 8


def test_class_frequencies_at_the_size_trained_on(camvid: Path) -> None:
    read, cached = (
        SegmentationData(DataConfig("camvid", str(camvid), short_side=12, cache=cache))
        for cache in (False, True)
    )
    for index in range(6):
        _ = cached.train_set[index]
    assert read.class_frequencies().pixels.tolist() == [6 * 48] * 4 + [0] * 7
    assert cached.class_frequencies().pixels.tolist() == [6 * 48] * 4 + [0] * 7


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_faulty_mask_comes_out_of_a_worker_as_one_line(camvid: Path, workers: int) -> None:
    bad = camvid / "trainannot/train4.png"
    mask = read_mask(bad)
    mask[3, 5] = 77
    Image.fromarray(mask).save(bad)
    config = DataConfig("camvid", str(camvid), batch_size=2, crop=(16, 16), workers=workers)
    with pytest.raises(BinsegError) as caught:
        list(SegmentationData(config).train_dataloader())
    assert str(caught.value).startswith(str(bad))
    assert "77" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_workers_end_with_the_error_and_the_loader_goes_on(camvid: Path) -> None:
    bad = camvid / "trainannot/train4.png"
    good = bad.read_bytes()
    bad.write_bytes(good[:40])
    config = DataConfig("camvid", str(camvid), batch_size=2, crop=(16, 16), workers=2)
    loader = SegmentationData(config).train_dataloader()
    with pytest.raises(BinsegError):
        list(loader)
    assert multiprocessing.active_children() == []
    bad.write_bytes(good)
    assert len(list(loader)) == 3


def test_other_errors_in_a_worker_stay_what_they_are() -> None:
    loader = Loader(_broken, OrderedBatches(2, 1, 0, 1), workers=1)
    with pytest.raises(ZeroDivisionError):
        list(loader)


def _broken(_: int) -> object:
    return 1 // 0


@pytest.mark.parametrize(
    "change", [{"batch_size": 0}, {"workers": -1}, {"seed": -1}, {"calibration_images": 0}]
)
def test_impossible_settings(change: dict) -> None:
    with pytest.raises(BinsegError, match=f"data.{next(iter(change))}"):
        DataConfig("scenes", **change)
    with pytest.raises(BinsegError, match="did you mean 'scenes'"):
        SegmentationData(DataConfig("scene"))


def test_config_is_read_by_jsonargparse() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=DataConfig, default=DataConfig())
    arguments = ["--data.name=scenes", "--data.crop=[96, 128]", "--data.augment.flip=0.25"]
    arguments += ["--data.short_side=null", "--data.cache=true"]
    config = parser.instantiate_classes(parser.parse_args(arguments)).data
    assert config == DataConfig(
        "scenes",
        crop=(96, 128),
        cache=True,
        augment=type(config.augment)(flip=0.25),
    )
