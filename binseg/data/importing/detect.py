"""Which tool wrote a folder or a file of annotations."""

from collections.abc import Callable, Mapping
from pathlib import Path

from binseg.data.importing import coco, color_masks, label_studio, labelme, trees, yolo
from binseg.data.importing.found_images import ImageIndex
from binseg.data.importing.hugging_face import HuggingFace
from binseg.data.importing.source import Source
from binseg.data.label_table import Color
from binseg.data.labels_yaml import read_labels_yaml
from binseg.errors import BinsegError, unknown_name

FORMATS = {
    "labelme": "Labelme JSON",
    "cvat": 'CVAT "Segmentation mask 1.1"',
    "coco": "COCO JSON",
    "yolo": "YOLO polygons",
    "label-studio": "Label Studio JSON",
    "hugging-face": "Hugging Face parquet",
    "voc": "a tree like PASCAL VOC's",
    "cityscapes": "a tree like Cityscapes'",
    "color-masks": "colour masks with class_dict.csv or labels.yaml",
}
"""Names for --format, and what each is."""


def detect(root: Path) -> str:
    """The format of a folder or file, by what is in it.

    Raises:
        BinsegError: none or several fit.
    """
    found = [name for name, fits in _SIGNS.items() if fits(root)]
    # what is more specific goes first: CVAT's export is a tree like VOC's, too
    for special, general in (("cvat", "voc"), ("voc", "color-masks"), ("cvat", "color-masks")):
        if special in found and general in found:
            found.remove(general)
    if len(found) > 1:
        raise BinsegError(
            f"{root}: could be {' or '.join(found)}; choose one with --format, or give the part "
            "that you mean"
        )
    if not found and (root / "images").is_dir() and (root / "masks").is_dir():
        raise BinsegError(
            f"{root}: images/ and masks/ need no import; write {root / 'labels.yaml'}, for example "
            "`classes: [other, {name: road, id: 255}]` for masks of 0 and 255, and see `binseg "
            f"data check --data.name folder --data.root {root}`"
        )
    if not found:
        known = "; ".join(f"{name} ({title})" for name, title in FORMATS.items())
        raise BinsegError(f"{root}: no annotations that binseg knows; it reads {known}")
    return found[0]


def open_source(name: str, root: Path, images: Path | None, labels: Path | None) -> Source:
    """The reader of a format.

    Args:
        name: one of `FORMATS`.
        root: the annotations' folder or file.
        images: one more folder with images.
        labels: a labels.yaml with names, ids and colours, for masks that come without.

    Raises:
        BinsegError: an unknown format, or a part that is missing.
    """
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    folder = root if root.is_dir() else root.parent
    index = ImageIndex([folder, *([images] if images else [])])
    source = _opened(name, root, folder, index, labels)
    if root.is_dir():  # else the folder may hold anything
        index.note_left_out(source.notes)
    return source


def _opened(name: str, root: Path, folder: Path, index: ImageIndex, labels: Path | None) -> Source:
    table = read_labels_yaml(labels) if labels else None
    if name == "labelme":
        return labelme.Labelme(folder, index)
    if name == "cvat":
        return color_masks.cvat(root, index)
    if name == "coco":
        return coco.Coco(_need(coco.annotation_files(root), root, name), index)
    if name == "yolo":
        if yolo.data_file(root) is None:
            raise BinsegError(f"{root}: no data.yaml with `names` beside labels/; add it")
        return yolo.Yolo(root, index)
    if name == "label-studio":
        return label_studio.LabelStudio(_need(_exports(root), root, name)[0], index)
    if name == "hugging-face":
        return HuggingFace(root)
    if name == "voc":
        return trees.voc_tree(root, index, table)
    if name == "cityscapes":
        return trees.cityscapes_tree(root, index, table)
    return color_masks.color_folders(root, _colors(root, labels), index)


def _need(paths: list[Path], root: Path, name: str) -> list[Path]:
    if not paths:
        raise BinsegError(f"{root}: no file of format '{name}' here; check the folder")
    return paths


def _exports(root: Path) -> list[Path]:
    paths = [root] if root.is_file() else sorted(root.glob("*.json"))
    return [path for path in paths if label_studio.is_export(path)]


def _colors(root: Path, labels: Path | None) -> Mapping[str, Color]:
    if labels is not None:
        return color_masks.labels_yaml_colors(labels)
    for pattern, read in _COLOR_TABLES.items():
        for path in sorted(root.rglob(pattern)):
            return read(path)
    raise BinsegError(
        f"{root}: nothing says which colour is which class; write a labels.yaml with a `color:` "
        "for each class and give it with --labels"
    )


_COLOR_TABLES: dict[str, Callable[[Path], Mapping[str, Color]]] = {
    "labelmap.txt": color_masks.labelmap_colors,
    "class_dict.csv": color_masks.class_dict_colors,
    "labels.yaml": color_masks.labels_yaml_colors,
}


def _has(root: Path, pattern: str) -> bool:
    return root.is_dir() and next(root.rglob(pattern), None) is not None


_SIGNS: dict[str, Callable[[Path], bool]] = {
    "coco": lambda root: bool(coco.annotation_files(root)),
    "label-studio": lambda root: bool(_exports(root)),
    "labelme": lambda root: root.is_dir() and bool(labelme.annotation_files(root)),
    "yolo": lambda root: root.is_dir() and yolo.data_file(root) is not None,
    "hugging-face": lambda root: root.suffix == ".parquet" or _has(root, "*.parquet"),
    "cvat": lambda root: _has(root, "labelmap.txt") and _has(root, "SegmentationClass"),
    "voc": lambda root: _has(root, "SegmentationClass"),
    "cityscapes": lambda root: _has(root, "*_labelIds.png"),
    "color-masks": lambda root: (
        any(_has(root, pattern) for pattern in ("class_dict.csv", "labels.yaml"))
        and bool(color_masks.mask_files(root))
    ),
}
