"""Images that are nearly the same are found, unrelated ones are not, however alike they look."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from binseg.cli.data_check import data_check
from binseg.data.check import check_dataset
from binseg.data.config import DataConfig
from binseg.data.imageio import write_image, write_mask
from binseg.data.near_duplicates import (
    Limits,
    distinct_views,
    limits_of,
    nearest_duplicates,
    thumbnail,
)
from binseg.data.scenes import draw_scene


def textured(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """uint8 (H, W, 3): smooth noise of several scales, another with each seed."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*size, 3), np.float32)
    for cells in (3, 6, 12, 24):
        coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC) / cells**0.5
    return np.clip(128 + 90 * image, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


CHANGES = {
    "the same": lambda image: image,
    "JPEG": lambda image: jpeg(image, 25),
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5),
    "squeezed": lambda image: cv2.resize(image, (70, 90)),
    "dark": lambda image: (image * 0.5).astype(np.uint8),
    "bright": lambda image: np.clip(image * 1.4, 0, 255).astype(np.uint8),
    "gamma": lambda image: ((image / 255.0) ** 2 * 255).astype(np.uint8),
    "fog": lambda image: (image * 0.4 + 120).astype(np.uint8),
    "blur": lambda image: cv2.GaussianBlur(image, (0, 0), 2),
    "noise": lambda image: np.clip(
        image + np.random.default_rng(0).normal(0, 20, image.shape), 0, 255
    ).astype(np.uint8),
    "cut": lambda image: image[2:-2, 3:-3],
    "moved": lambda image: np.roll(image, 2, axis=1),
    "mirrored": lambda image: image[:, ::-1],
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2),
}


def stack(images: list[np.ndarray]) -> np.ndarray:
    return np.stack([thumbnail(np.ascontiguousarray(image)) for image in images])


@pytest.mark.parametrize("name", CHANGES)
def test_changed_copies_are_found(name: str) -> None:
    images = [textured(seed) for seed in range(12)]
    changed = stack([CHANGES[name](image) for image in images])
    found = nearest_duplicates(stack(images), changed, Limits())
    assert found.tolist() == list(range(12))
    if name == "mirrored":
        assert (nearest_duplicates(stack(images), changed, Limits(), mirrored=False) == -1).all()


def test_unrelated_images_are_not() -> None:
    first, second = (stack([textured(s + n) for n in range(150)]) for s in (0, 1000))
    limits = limits_of(np.concatenate([first, second]))
    assert not limits.tightened
    assert (nearest_duplicates(first, second, limits) == -1).all()
    assert distinct_views(second, limits) == 150


def test_flat_images_agree_only_in_their_signs() -> None:
    """A sky above, one small thing somewhere: nearly all differences have the same sign."""
    images = []
    for place in range(12):
        image = np.repeat(np.linspace(200, 120, 96)[:, None], 128, axis=1)
        image[50:70, 3 + 7 * place : 15 + 7 * place] = 20
        images.append(np.repeat(image[:, :, None], 3, axis=2).astype(np.uint8))
    first, second = stack(images[::2]), stack(images[1::2])
    assert (nearest_duplicates(first, second, Limits(), mirrored=False) == -1).all()
    loose = Limits(correlation=-1.0)
    assert (nearest_duplicates(first, second, loose, mirrored=False) >= 0).all()


def test_drawn_streets_are_not() -> None:
    first, second = (
        stack([draw_scene(seed, n, (48, 64)).image for n in range(60)]) for seed in (0, 1)
    )
    limits = limits_of(np.concatenate([first, second]))
    assert (nearest_duplicates(first, second, limits) == -1).all()


def test_frames_of_a_film_are_one_view() -> None:
    wide = textured(7, (96, 600))
    film = stack([wide[:, 3 * n : 3 * n + 128] for n in range(100)])
    others = stack([textured(seed) for seed in range(5)])
    limits = limits_of(np.concatenate([film, others]))
    assert distinct_views(film, limits) == 1
    assert distinct_views(np.concatenate([film, others]), limits) == 6
    # every other frame
    assert (nearest_duplicates(film[::2], film[1::2], limits) >= 0).all()


def test_images_that_are_all_alike_have_tighter_limits() -> None:
    base = textured(3).astype(np.float32)
    rng = np.random.default_rng(0)
    alike = []
    for _ in range(60):  # one camera, and things that come and go
        image = base * rng.uniform(0.9, 1.1)
        for _ in range(3):
            top, left = rng.integers(0, 60), rng.integers(0, 90)
            image[top : top + 24, left : left + 24] = textured(int(rng.integers(1e6)), (24, 24))
        alike.append(np.clip(image, 0, 255).astype(np.uint8))
    thumbnails = stack(alike)
    limits = limits_of(thumbnails)
    assert limits.tightened
    loose = (nearest_duplicates(thumbnails[:30], thumbnails[30:], Limits()) >= 0).sum()
    tight = (nearest_duplicates(thumbnails[:30], thumbnails[30:], limits) >= 0).sum()
    assert tight < loose
    again = stack([jpeg(image, 60) for image in alike])
    assert (nearest_duplicates(thumbnails, again, limits) == np.arange(60)).all()


def test_few_or_no_images() -> None:
    none = np.zeros((0, 13, 13), np.float32)
    some = stack([textured(0), textured(1)])
    assert limits_of(none) == limits_of(some) == Limits()
    assert nearest_duplicates(none, some, Limits()).tolist() == [-1, -1]
    assert nearest_duplicates(some, none, Limits()).tolist() == []
    assert distinct_views(none, Limits()) == 0
    flat = np.full((3, 13, 13), 7, np.float32)
    assert (nearest_duplicates(flat, flat, Limits()) == -1).all(), "nothing is in flat images"


# --- in the report ------------------------------------------------------------------------------


def put(root: Path, name: str, split: str, image: np.ndarray) -> None:
    write_image(root / f"images/{split}/{name}", image)
    ids = np.arange(image.shape[1]) * 2 // image.shape[1]
    mask = np.repeat(ids[None], image.shape[0], axis=0).astype(np.uint8)
    write_mask(root / f"masks/{split}/{Path(name).stem}.png", mask)


def test_the_report_says_how_many_and_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.yaml").write_text("classes: [a, b]\n")
    for n in range(10):
        put(tmp_path, f"t{n}.png", "train", textured(n))
    for n in range(5):
        put(tmp_path, f"v{n}.png", "val", textured(100 + n))
    put(tmp_path, "again.jpg", "val", textured(4)[1:, 1:])
    put(tmp_path, "mirror.png", "val", textured(6)[:, ::-1])
    put(tmp_path, "copy.png", "val", textured(8))
    report = check_dataset(DataConfig("folder", str(tmp_path)))
    assert [fault.kind for fault in report.faults] == ["copy"], "equal pixels are a fault, as ever"
    (warning,) = report.warnings
    assert warning.kind == "near"
    assert warning.text.startswith("val: 2 of 8 images are nearly the same as images of train")
    assert "--data.group_by" in warning.text
    pairs = [(a.name, b.name) for a, b in report.near_duplicates["train", "val"]]
    assert pairs == [("t4.png", "again.jpg"), ("t6.png", "mirror.png")]
    written = report.to_dict()
    assert written["near_duplicates"]["train/val"][0][1].endswith("again.jpg")
    assert written["warnings"]["near"] == [warning.text]
    (tmp_path / "images/val/copy.png").unlink()
    (tmp_path / "masks/val/copy.png").unlink()
    assert data_check(DataConfig("folder", str(tmp_path)), workers=1) == 0
    out = capsys.readouterr().out
    assert "images of different splits are nearly the same: 1" in out
    assert "no faults, 1 warning" in out


def test_a_val_of_one_film(tmp_path: Path) -> None:
    wide = textured(7, (96, 600))
    for n in range(5):
        put(tmp_path, f"{n}.png", "train", textured(n))
    for n in range(12):
        put(tmp_path, f"{n}.png", "val", wide[:, 3 * n : 3 * n + 128])
    (tmp_path / "labels.yaml").write_text("classes: [a, b]\n")
    (warning,) = check_dataset(DataConfig("folder", str(tmp_path))).warnings
    assert warning.kind == "views"
    assert warning.text.startswith("val: its 12 images show only 1 view,")


def test_camvid_sequences_in_both_splits(tmp_path: Path) -> None:
    for split, names in {
        "train": ["0001TP_006690", "0016E5_00390", "0016E5_00420"],
        "val": ["0016E5_07959", "0016E5_07961"],
    }.items():
        for place, name in enumerate(names):
            seed = place + 10 * (split == "val")
            write_image(tmp_path / f"{split}/{name}.png", textured(seed))
            write_mask(tmp_path / f"{split}annot/{name}.png", np.zeros((96, 128), np.uint8))
    config = DataConfig("camvid", str(tmp_path), allow_missing_classes=True)

    def texts(config: DataConfig) -> list[str]:
        warnings = check_dataset(config).warnings
        return [warning.text for warning in warnings if warning.kind == "sequences"]

    (text,) = texts(config)
    assert text.startswith("val: 2 of its 2 images are of 0016E5, like 2 of train's 3;")
    assert "--data.val_groups" in text
    config.val_groups = "0016E5"
    assert texts(config) == []
