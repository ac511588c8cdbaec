"""Labelled images: reading the trees, keeping them in memory, cutting them by chance."""

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from archive_server import serving
from PIL import Image

from binseg.data import classification_augment, classification_store
from binseg.data.classification import ClassificationData
from binseg.data.classification_augment import augment, augment_one, fit_size, random_windows
from binseg.data.classification_config import ClassificationConfig
from binseg.data.classification_files import FolderSplit, open_split
from binseg.data.classification_store import decode
from binseg.errors import BinsegError


def write_tree(root: Path, train: int = 6, val: int = 3, size: tuple[int, int] = (16, 16)) -> Path:
    """Two classes of PNGs; an image's red channel is its class times 100, plus its number."""
    for split, count in (("train", train), ("val", val)):
        for label, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = np.full((*size, 3), 100 * label + number, np.uint8)
                Image.fromarray(image).save(folder / f"{number}.png")
    return root


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree")


def config(root: Path, **changes: object) -> ClassificationConfig:
    settings = {"size": 16, "batch_size": 4, "val_batch_size": 4, "calibration_images": 5}
    return ClassificationConfig(root=str(root), **{**settings, **changes})


def gradient_image(height: int, width: int) -> np.ndarray:
    """uint8 (H, W, 3): channel 0 is the row, channel 1 the column, channel 2 is 7."""
    image = np.full((height, width, 3), 7, np.uint8)
    image[:, :, 0] = np.arange(height)[:, None]
    image[:, :, 1] = np.arange(width)
    return image


def batch_of(image: np.ndarray, count: int) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).expand(count, -1, -1, -1)


# --- augmentation -----------------------------------------------------------------------------


def test_a_shift_is_a_window_of_the_reflected_image():
    image = gradient_image(9, 7)[:7]
    settings = config(Path(), crop="shift", padding=3, size=8)
    settings.size = 7
    out = augment(batch_of(image, 64), settings, (0, 1, 2))
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="reflect")
    windows = [padded[top : top + 7, left : left + 7] for top in range(7) for left in range(7)]
    windows += [window[:, ::-1] for window in windows]
    seen = set()
    for each in out.permute(0, 2, 3, 1).numpy():
        found = [i for i, window in enumerate(windows) if np.array_equal(each, window)]
        assert found
        seen.add(found[0])
    assert len(seen) > 20
    assert out.dtype == torch.uint8


def test_a_shift_beyond_the_image_reflects_back_and_forth():
    image = gradient_image(3, 3)
    settings = config(Path(), crop="shift", padding=5, flip=False)
    settings.size = 3
    out = augment(batch_of(image, 40), settings, (3,))
    padded = np.pad(image, ((5, 5), (5, 5), (0, 0)), mode="reflect")
    windows = [padded[t : t + 3, x : x + 3].tobytes() for t in range(11) for x in range(11)]
    shown = out.permute(0, 2, 3, 1).contiguous().numpy()
    assert all(each.tobytes() in windows for each in shown)


def test_the_whole_window_is_the_image_and_its_mirror():
    image = gradient_image(13, 13)
    settings = config(Path(), area=(1.0, 1.0), size=13)
    torch_windows = np.array([[0.0, 0.0, 1.0, 1.0]] * 2)
    theta = classification_augment._theta(torch_windows, np.array([False, True]))
    out = classification_augment._resampled(batch_of(image, 2), theta, settings.size)
    assert np.array_equal(out[0].permute(1, 2, 0), image)
    assert np.array_equal(out[1].permute(1, 2, 0), image[:, ::-1])


def test_a_quarter_window_is_enlarged_like_opencv_does():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    theta = classification_augment._theta(np.array([[0.25, 0.5, 0.5, 0.5]]), np.array([False]))
    out = classification_augment._resampled(batch_of(image, 1), theta, 16)
    expected = cv2.resize(image[4:12, 8:16], (16, 16), interpolation=cv2.INTER_LINEAR)
    # away from the window's border, where OpenCV sees no neighbours
    inner = out[0].permute(1, 2, 0).numpy()[2:-2, 2:-2].astype(int)
    assert np.abs(inner - expected[2:-2, 2:-2]).max() <= 1


def test_windows_lie_inside_and_have_the_area_asked_for():
    windows = random_windows(np.random.default_rng(1), 500, 30, 40, (0.3, 0.5))
    top, left, high, wide = windows.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + high <= 1 + 1e-12).all()
    assert (left + wide <= 1 + 1e-12).all()
    share, ratio = high * wide, (wide * 40) / (high * 30)
    uncut = (high < 1) & (wide < 1)
    assert (share[uncut] >= 0.3 - 1e-9).all()
    assert (share <= 0.5 + 1e-9).all()
    assert (ratio[uncut] >= 3 / 4 - 1e-9).all()
    assert (ratio[uncut] <= 4 / 3 + 1e-9).all()


@pytest.mark.parametrize("crop", ["shift", "resized"])
def test_changes_follow_from_the_key_alone(crop):
    images = batch_of(gradient_image(16, 16), 5)
    settings = config(Path(), crop=crop)
    first = augment(images, settings, (0, 3, 8))
    assert torch.equal(first, augment(images, settings, (0, 3, 8)))
    assert not torch.equal(first, augment(images, settings, (0, 4, 8)))
    assert not torch.equal(first, augment(images, settings, (1, 3, 8)))
    assert first.shape == (5, 3, 16, 16)
    assert first.is_contiguous(memory_format=torch.channels_last)
    one = augment_one(gradient_image(21, 40), settings, (0, 1))
    assert one.shape == (16, 16, 3)
    assert np.array_equal(one, augment_one(gradient_image(21, 40), settings, (0, 1)))


def test_oblong_images_are_cut_to_their_middle():
    out = fit_size(batch_of(gradient_image(8, 12), 1), 8)
    assert np.array_equal(out[0].permute(1, 2, 0), gradient_image(8, 12)[:, 2:10])
    assert fit_size(batch_of(gradient_image(8, 12), 1), 5).shape == (1, 3, 5, 5)


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_epoch_shows_every_image_with_its_class(tree, in_memory):
    data = ClassificationData(config(tree, in_memory=in_memory))
    assert data.in_memory is in_memory
    assert data.classes == ["cat", "dog"]
    values, labels = [], []
    for batch in data.train_dataloader():
        assert batch["image"].shape == (4, 3, 16, 16)
        assert batch["image"].dtype == torch.uint8
        values += batch["image"][:, 0, 0, 0].tolist()
        labels += batch["label"].tolist()
    assert sorted(values) == [*range(6), *range(100, 106)]
    assert labels == [value // 100 for value in values]
    assert values != sorted(values)
    shown = torch.cat([b["label"] for b in data.val_dataloader()])
    assert shown.tolist() == [0, 0, 0, 1, 1, 1]


def test_both_paths_show_the_same_images_in_the_same_order(tree):
    orders = []
    for in_memory in (True, False):
        data = ClassificationData(config(tree, in_memory=in_memory, seed=5))
        loader = data.train_dataloader()
        orders.append([b["image"][:, 0, 0, 0].tolist() for _ in range(2) for b in loader])
    assert orders[0] == orders[1]
    assert orders[0][:3] != orders[0][3:]


def test_runs_of_other_seeds_see_other_orders(tree):
    orders = []
    for seed in (0, 0, 1):
        loader = ClassificationData(config(tree), run_seed=seed).train_dataloader()
        orders.append([b["image"][:, 0, 0, 0].tolist() for b in loader])
    assert orders[0] == orders[1] != orders[2]


def test_memory_is_used_below_the_limit_only(tree):
    assert ClassificationData(config(tree)).in_memory
    assert not ClassificationData(config(tree, memory_limit=0.0)).in_memory


def test_calibration_images_are_unchanged_training_images(tree):
    data = ClassificationData(config(tree))
    values = [v for b in data.calibration_batches() for v in b["image"][:, 0, 3, 3].tolist()]
    # index 0, 2, 4, 7 and 9 of 0 to 5 and 100 to 105
    assert sorted(values) == [0, 2, 4, 101, 103]


def test_a_cache_is_written_only_where_asked_and_found_again(tree, tmp_path, monkeypatch):
    before = sorted(tree.rglob("*"))
    list(ClassificationData(config(tree)).val_dataloader())
    assert sorted(tree.rglob("*")) == before
    split = open_split(config(tree), "train")
    first = decode(split, None, cache=tmp_path / "cache")
    monkeypatch.setattr(FolderSplit, "image", None)
    assert np.array_equal(decode(split, None, cache=tmp_path / "cache"), first)


def test_decoding_tells_how_far_it_is_and_squares_what_it_keeps(tmp_path, monkeypatch):
    monkeypatch.setattr(classification_store, "_CHUNK", 5)
    split = open_split(config(write_tree(tmp_path / "tree", size=(12, 18))), "train")
    seen = []
    array = decode(split, 9, workers=2, on_progress=lambda done, total: seen.append((done, total)))
    assert array.shape == (12, 9, 9, 3)
    assert seen == [(5, 12), (10, 12), (12, 12)]
    assert array[:, 4, 4, 0].tolist() == [*range(6), *range(100, 106)]


# --- bad input --------------------------------------------------------------------------------


def test_missing_val_says_so(tree):
    (tree / "val").rename(tree / "test")
    with pytest.raises(BinsegError, match=r"val: no such folder; an ImageFolder tree"):
        ClassificationData(config(tree))


def test_no_root_says_so(tmp_path):
    with pytest.raises(BinsegError, match=r"data\.root is not set"):
        ClassificationData(ClassificationConfig())
    with pytest.raises(BinsegError, match="no such folder"):
        ClassificationData(config(tmp_path / "nowhere"))


def test_an_empty_class_is_named(tree):
    (tree / "train" / "emu").mkdir()
    with pytest.raises(BinsegError, match=r"emu: no images in this class"):
        ClassificationData(config(tree))


def test_a_split_without_class_folders_is_named(tree):
    for path in sorted((tree / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(BinsegError, match=r"val: no class folders"):
        ClassificationData(config(tree))


def test_splits_of_other_classes_are_refused(tree):
    (tree / "val" / "dog").rename(tree / "val" / "owl")
    with pytest.raises(BinsegError, match=r"class 'dog' is in train/ but not in val/"):
        ClassificationData(config(tree))


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_unreadable_image_is_named(tree, in_memory):
    (tree / "train" / "dog" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    data = ClassificationData(config(tree, in_memory=in_memory))
    with pytest.raises(BinsegError, match=r"dog/3\.png: damaged or truncated"):
        list(data.train_dataloader())


def test_images_of_several_sizes_need_a_stored_size(tree):
    Image.new("RGB", (20, 16)).save(tree / "train" / "dog" / "4.png")
    with pytest.raises(BinsegError, match=r"20 × 16 pixels.*set data\.stored_size"):
        list(ClassificationData(config(tree)).train_dataloader())
    list(ClassificationData(config(tree, stored_size=16)).train_dataloader())


def test_grey_transparent_and_cmyk_images_become_rgb(tree):
    Image.new("L", (16, 16), 9).save(tree / "train" / "cat" / "0.png")
    Image.new("RGBA", (16, 16), (1, 2, 3, 255)).save(tree / "train" / "cat" / "1.png")
    (tree / "train" / "cat" / "2.png").unlink()
    Image.new("CMYK", (16, 16), (0, 0, 0, 0)).save(tree / "train" / "cat" / "2.jpg")
    split = open_split(config(tree), "train")
    array = decode(split, None)
    assert array[0, 5, 5].tolist() == [9, 9, 9]
    assert array[1, 5, 5].tolist() == [1, 2, 3]
    assert array[2, 5, 5].tolist() == [255, 255, 255]


def test_cifar10_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(BinsegError, match=r"no CIFAR-10 here; set --data\.download true"):
        ClassificationData(config(tmp_path, name="cifar10"))


def test_cifar10_is_read_through_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels[name] = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
        content = {"data": pixels[name].reshape(4, -1), "labels": [0, 1, 1, 0]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["plane", "car"]}))
    data = ClassificationData(config(tmp_path, name="cifar10", size=32))
    assert data.classes == ["plane", "car"]
    assert data.in_memory
    assert sum(len(batch["label"]) for batch in data.train_dataloader()) == 20
    (batch,) = data.val_dataloader()
    assert np.array_equal(batch["image"], pixels["test_batch"])
    assert batch["label"].tolist() == [0, 1, 1, 0]


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    # the port of `discard`, where nobody listens
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", "http://127.0.0.1:9/cifar.tar.gz")
    with pytest.raises(BinsegError, match=r"was not fetched \(Connection refused\).*put it into"):
        ClassificationData(config(tmp_path, name="cifar10", download=True))


def test_cifar10_is_fetched_and_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "torchvision.datasets.cifar.check_integrity", lambda path, _: Path(path).exists()
    )
    shop = tmp_path / "shop"
    shop.mkdir()
    with tarfile.open(shop / "cifar-10-python.tar.gz", "w:gz") as tar:
        for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
            data = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
            content = pickle.dumps(data | {"label_names": ["plane", "car"]})
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    md5 = hashlib.md5((shop / "cifar-10-python.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr("torchvision.datasets.CIFAR10.tgz_md5", md5)
    monkeypatch.setenv("no_proxy", "*")
    settings = config(tmp_path / "data", name="cifar10", size=32, download=True)
    with serving(shop) as server:
        address = f"{server.url}/cifar-10-python.tar.gz"
        monkeypatch.setattr("torchvision.datasets.CIFAR10.url", address)
        assert ClassificationData(settings).classes == ["plane", "car"]
        asked = len(server.asked)
        assert ClassificationData(settings).classes == ["plane", "car"]
        assert len(server.asked) == asked == 1


def test_what_is_left_out_is_told(tree):
    folder = tree / "train" / sorted(path.name for path in (tree / "train").iterdir())[0]
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "notes.txt").write_text("x")
    before = ClassificationData(config(tree))._train_length()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "photo.jfif", format="JPEG")
    data = ClassificationData(config(tree))
    assert data._train_length() == before + 1
    gone, phone = sorted(data.left_out())
    assert "gone.png: left out: a link to nowhere.png" in gone
    assert "phone.heic: left out: HEIC" in phone


@pytest.mark.parametrize(
    "changes", [{"size": 4}, {"area": (0.5, 0.2)}, {"padding": -1}, {"batch_size": 0}]
)
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(BinsegError, match=f"data.{next(iter(changes))}"):
        replace(ClassificationConfig(), **changes)


def test_a_batch_larger_than_the_data_set_is_refused(tree):
    with pytest.raises(BinsegError, match=r"lower data\.batch_size"):
        ClassificationData(config(tree, batch_size=13)).train_dataloader()
