"""Small trees of files in the layouts of PASCAL VOC, SBD and Cityscapes."""

from pathlib import Path

import numpy as np
from scipy.io import savemat

from binseg.data.imageio import write_image, write_mask
from binseg.data.labels import get_label_table, voc_palette

CITIES = ("aachen", "bochum", "ulm")


def _blocks(rng: np.random.Generator, size: tuple[int, int], ids: list[int]) -> np.ndarray:
    """uint8 (H, W): a few rectangles of ids."""
    labels = np.full(size, rng.choice(ids), np.uint8)
    for _ in range(6):
        top, left = rng.integers(0, size[0] - 2), rng.integers(0, size[1] - 2)
        labels[top : top + size[0] // 2, left : left + size[1] // 3] = rng.choice(ids)
    return labels


def _image(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    colors = np.asarray(voc_palette(256), np.uint8)[labels] // 2
    return colors + rng.integers(0, 100, (*labels.shape, 1), np.uint8)


def write_voc(
    root: Path,
    *,
    train: int = 4,
    val: int = 3,
    test: int = 0,
    sbd: int = 0,
    size: tuple[int, int] = (40, 60),
    seed: int = 0,
) -> Path:
    """root/VOCdevkit/VOC2012 and, with `sbd` new images, root/sbd; returns root.

    SBD's lists also name the first image of VOC's train and of its val, as the real ones do.
    """
    rng = np.random.default_rng(seed)
    voc = root / "VOCdevkit" / "VOC2012"
    lists = voc / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {}
    for split, count, first in (("train", train, 0), ("val", val, 1000), ("test", test, 2000)):
        names[split] = [f"2008_{first + index:06d}" for index in range(count)]
        for name in names[split]:
            labels = _blocks(rng, size, [*range(21), 255])
            labels[: size[0] // 3, : size[1] // 3] = 15  # some person in every image
            write_image(voc / "JPEGImages" / f"{name}.jpg", _image(rng, labels))
            if split != "test":
                write_mask(voc / "SegmentationClass" / f"{name}.png", labels, voc_palette(256))
    names["trainval"] = names["train"] + names["val"]
    for split, listed in names.items():
        if listed:
            (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in listed))
    if sbd:
        _write_sbd(root / "sbd", names["train"][:1], names["val"][:1], sbd, size, rng)
    return root


def _write_sbd(
    root: Path,
    train: list[str],
    val: list[str],
    count: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    new = [f"2009_{index:06d}" for index in range(count)]
    half = (count + 1) // 2
    lists = {"train": new[:half] + val, "val": new[half:] + train}
    for split, names in lists.items():
        for name in names:
            labels = _blocks(rng, size, list(range(21)))
            write_image(root / "img" / f"{name}.jpg", _image(rng, labels))
            (root / "cls").mkdir(exist_ok=True)
            mat = np.empty((1, 1), [("Segmentation", object)])
            mat[0, 0]["Segmentation"] = labels
            savemat(root / "cls" / f"{name}.mat", {"GTcls": mat})
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def write_cityscapes(
    root: Path,
    *,
    train: int = 2,
    val: int = 2,
    test: int = 0,
    train_extra: int = 0,
    size: tuple[int, int] = (64, 128),
    instances: bool = True,
    seed: int = 0,
) -> Path:
    """root/leftImg8bit, gtFine and, with train_extra, gtCoarse; returns root."""
    rng = np.random.default_rng(seed)
    counts = {"train": train, "val": val, "test": test, "train_extra": train_extra}
    for split, count in counts.items():
        kind = "gtCoarse" if split == "train_extra" else "gtFine"
        for index in range(count):
            city = CITIES[index % len(CITIES)]
            stem = f"{city}_{index:06d}_000019"
            evaluated = [raw for raw, train_id in _CITYSCAPES.items() if train_id != 255]
            labels = _blocks(rng, size, [*evaluated, 0, 4, 9])
            labels[: size[0] // 4, : size[1] // 4] = 26
            if split == "test":
                labels[:] = 3  # out of roi: what the public files hold
            image = root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
            write_image(image, _image(rng, labels))
            masks = root / kind / split / city
            write_mask(masks / f"{stem}_{kind}_labelIds.png", labels)
            if instances and kind == "gtFine":
                _write_instances(masks / f"{stem}_gtFine_instanceIds.png", labels)
    return root


_CITYSCAPES = get_label_table("cityscapes").raw_to_train
_WITH_INSTANCES = (24, 25, 26, 27, 28, 31, 32, 33)


def _write_instances(path: Path, labels: np.ndarray) -> None:
    """16-bit ids: of each class with instances the left half of the image is one, the right
    half another, and the lowest row a group without an instance of its own."""
    from PIL import Image

    ids = labels.astype(np.uint16)
    halves = np.arange(labels.shape[1]) * 2 // labels.shape[1]
    own = np.isin(labels, _WITH_INSTANCES)
    own[-1] = False
    numbered = labels.astype(np.uint16) * 1000 + halves[None].astype(np.uint16)
    Image.fromarray(np.where(own, numbered, ids)).save(path)
