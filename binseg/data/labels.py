"""The built-in label tables: the one place in the package that knows classes."""

from collections.abc import Mapping, Sequence

import numpy as np

from binseg.data.label_table import IGNORE, IGNORE_COLOR, Color, LabelTable
from binseg.errors import BinsegError, unknown_name

__all__ = [
    "CLASS_MAPPINGS",
    "IGNORE",
    "IGNORE_COLOR",
    "LABEL_TABLES",
    "Color",
    "LabelTable",
    "class_lookup",
    "class_subset",
    "get_label_table",
    "voc_palette",
]


def voc_palette(count: int) -> tuple[Color, ...]:
    """The first `count` colours of PASCAL VOC's devkit (VOClabelcolormap.m)."""
    colors = []
    for index in range(count):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        colors.append((rgb[0], rgb[1], rgb[2]))
    return tuple(colors)


def _camvid() -> LabelTable:
    """SegNet's 11 classes and colours; raw id 11 is void."""
    classes: dict[str, Color] = {
        "sky": (128, 128, 128),
        "building": (128, 0, 0),
        "pole": (192, 192, 128),
        "road": (128, 64, 128),
        "pavement": (60, 40, 222),
        "tree": (128, 128, 0),
        "sign": (192, 128, 128),
        "fence": (64, 64, 128),
        "car": (64, 0, 128),
        "pedestrian": (64, 64, 0),
        "bicyclist": (0, 128, 192),
    }
    ids = {index: index for index in range(11)} | {11: IGNORE, 255: IGNORE}
    return LabelTable("camvid", tuple(classes), tuple(classes.values()), ids)


_VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep"),
    *("sofa", "train", "tvmonitor"),
)


def _voc() -> LabelTable:
    ids = {index: index for index in range(21)} | {255: IGNORE}
    return LabelTable("voc", tuple(_VOC_NAMES), voc_palette(21), ids)


def _voc_animals() -> LabelTable:
    """The animals of PASCAL VOC, all else ignored; not the PASCAL VOC benchmark."""
    names = ("background", "cat", "cow", "dog", "horse", "sheep", "person")
    raw = [_VOC_NAMES.index(name) for name in names]
    colors = voc_palette(21)
    ids = dict.fromkeys(range(21), IGNORE) | {255: IGNORE}
    ids |= {index: train for train, index in enumerate(raw)}
    return LabelTable("voc_animals", names, tuple(colors[index] for index in raw), ids)


def _cityscapes() -> LabelTable:
    """The 19 evaluation classes of cityscapesScripts' labels.py, from `*_labelIds.png`."""
    classes: dict[str, tuple[int, Color]] = {
        "road": (7, (128, 64, 128)),
        "sidewalk": (8, (244, 35, 232)),
        "building": (11, (70, 70, 70)),
        "wall": (12, (102, 102, 156)),
        "fence": (13, (190, 153, 153)),
        "pole": (17, (153, 153, 153)),
        "traffic light": (19, (250, 170, 30)),
        "traffic sign": (20, (220, 220, 0)),
        "vegetation": (21, (107, 142, 35)),
        "terrain": (22, (152, 251, 152)),
        "sky": (23, (70, 130, 180)),
        "person": (24, (220, 20, 60)),
        "rider": (25, (255, 0, 0)),
        "car": (26, (0, 0, 142)),
        "truck": (27, (0, 0, 70)),
        "bus": (28, (0, 60, 100)),
        "train": (31, (0, 80, 100)),
        "motorcycle": (32, (0, 0, 230)),
        "bicycle": (33, (119, 11, 32)),
    }
    ids = dict.fromkeys(range(34), IGNORE) | {255: IGNORE}
    ids |= {raw: train for train, (raw, _) in enumerate(classes.values())}
    colors = tuple(color for _, color in classes.values())
    return LabelTable("cityscapes", tuple(classes), colors, ids)


def _scenes() -> LabelTable:
    """The classes of the built-in street scenes, in Cityscapes' colours."""
    classes: dict[str, Color] = {
        "sky": (70, 130, 180),
        "road": (128, 64, 128),
        "pavement": (244, 35, 232),
        "building": (70, 70, 70),
        "tree": (107, 142, 35),
        "car": (0, 0, 142),
        "person": (220, 20, 60),
        "pole": (190, 190, 120),
    }
    ids = {index: index for index in range(8)} | {255: IGNORE}
    return LabelTable("scenes", tuple(classes), tuple(classes.values()), ids)


LABEL_TABLES: Mapping[str, LabelTable] = {
    table.name: table for table in (_camvid(), _voc(), _voc_animals(), _cityscapes(), _scenes())
}
"""The built-in tables by name."""


CLASS_MAPPINGS: Mapping[tuple[str, str], Mapping[str, str | None]] = {
    ("cityscapes", "camvid"): {
        "road": "road",
        "sidewalk": "pavement",
        "building": "building",
        "wall": "building",
        "fence": "fence",
        "pole": "pole",
        "traffic light": "sign",
        "traffic sign": "sign",
        "vegetation": "tree",
        "terrain": None,
        "sky": "sky",
        "person": "pedestrian",
        "rider": "bicyclist",
        "car": "car",
        "truck": "car",
        "bus": "car",
        "train": "car",
        "motorcycle": "bicyclist",
        "bicycle": "bicyclist",
    },
}
"""(a data set, one whose classes it gets) → what each of its classes becomes there, or None where
it is ignored."""


def get_label_table(name: str) -> LabelTable:
    """A built-in table: camvid, voc, voc_animals, cityscapes or scenes.

    Raises:
        BinsegError: no table of that name; says the nearest one.
    """
    if name not in LABEL_TABLES:
        raise unknown_name("label table", name, LABEL_TABLES)
    return LABEL_TABLES[name]


def class_subset(table: LabelTable, names: Sequence[str]) -> LabelTable:
    """`table.subset(names)`, under its own name if that is a built-in table (VOC's animals).

    Raises:
        BinsegError: as `LabelTable.subset`.
    """
    part = table.subset(names)
    own = (
        t
        for t in LABEL_TABLES.values()
        if (t.names, t.raw_to_train) == (part.names, part.raw_to_train)
    )
    return next(own, part)


def class_lookup(
    theirs: LabelTable,
    ours: LabelTable,
    labels: Mapping[str, str | None] | None = None,
    *,
    remedy: str,
) -> np.ndarray:
    """What each train id of one data set becomes among the classes of another.

    Args:
        theirs: classes of the data set that is read.
        ours: classes of the other data set, or some of them.
        labels: name of one of `theirs` → name of one of `ours`, or None for ignored pixels. A class
            that is not named becomes the class of the same name. None: the built-in table for the
            two data sets.
        remedy: what the message advises where classes are lost.

    Returns:
        uint8 (256,): train id of `ours`, 255 for ignored pixels, by train id of `theirs`.

    Raises:
        BinsegError: an unknown class (says the nearest), or classes that nothing is said about.
    """
    if labels is None:
        # of some of our classes only, what becomes another one is ignored
        built_in = CLASS_MAPPINGS.get((theirs.name, ours.name), {})
        labels = {name: new if new in ours.names else None for name, new in built_in.items()}
    for name, new in labels.items():
        if name not in theirs.names:
            raise unknown_name(f"class of '{theirs.name}'", name, theirs.names)
        if new is not None and new not in ours.names:
            raise unknown_name(f"class of '{ours.name}'", new, ours.names)
    lost = [name for name in theirs.names if name not in labels and name not in ours.names]
    if lost:
        raise BinsegError(
            f"{len(lost)} classes of '{theirs.name}' have no class of the same name in "
            f"'{ours.name}': {', '.join(lost)}; {remedy}"
        )
    lookup = np.full(256, IGNORE, np.uint8)
    for train, name in enumerate(theirs.names):
        new = labels.get(name, name)
        if new is not None:
            lookup[train] = ours.names.index(new)
    return lookup
