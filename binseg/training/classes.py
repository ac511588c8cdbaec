"""The classes that a run was begun with: a part of its snapshot.

A checkpoint knows classes by number alone. If the table that numbers them has changed, the outputs
that were learnt for one class would go on as another's.
"""

import json
from pathlib import Path
from typing import Any

from binseg.atomic import atomic_path
from binseg.data.labels import LabelTable
from binseg.errors import BinsegError
from binseg.loaded import read_header
from binseg.training.checkpoints import BEST

CLASSES = "classes.json"

ClassTable = dict[str, Any]
"""`names` by class id, and `raw_to_train`, which turns the ids of masks into class ids, if there
are masks; plain values, as `LabelTable.to_dict` gives them. `colors` does so for colours.
`pipeline` is the text of `data.augment.extra`, if there is one."""


def class_table(labels: LabelTable) -> ClassTable:
    """The table of a data set of images and masks."""
    colors = {"#{:02x}{:02x}{:02x}".format(*color): id_ for color, id_ in labels.colors.items()}
    return labels.to_dict() | ({"colors": colors} if colors else {})


def write_classes(table: ClassTable, folder: Path) -> None:
    """Write the table into a run folder."""
    with atomic_path(folder / CLASSES) as temporary:
        text = json.dumps(table, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def check_classes(table: ClassTable, folder: Path, source: str) -> list[str]:
    """Refuse to go on with a run under another table than it began with.

    Ids of masks that are new are harmless: a mask with them could not be read before.

    Args:
        table: of the data as they are now.
        folder: of the run.
        source: what the message calls the table, for example its file.

    Returns:
        Lines to report.

    Raises:
        BinsegError: names, their number or their order have changed, or an id of the masks means
            another class; the message says which. Or the augmentation pipeline has changed.
    """
    before = _written(folder)
    if before is None:
        return []
    if before.get("pipeline", table.get("pipeline")) != table.get("pipeline"):
        raise BinsegError(
            f"data.augment.extra: the file has changed since the run in {folder} began; restore it "
            f"({folder / CLASSES} has its text), or choose another --out"
        )
    changes = _renamed(before["names"], table["names"])
    ids, new_ids = before.get("raw_to_train", {}), table.get("raw_to_train", {})
    if not changes:
        changes = [
            f"id {raw} was {_class(train, before['names'])} and is "
            f"{_class(new_ids.get(raw), table['names'])}"
            for raw, train in ids.items()
            if new_ids.get(raw) != train
        ]
        colors = table.get("colors", {})
        changes += [
            f"colour {color} was {_class(train, before['names'])} and is "
            f"{_class(colors[color], table['names'])}"
            for color, train in before.get("colors", {}).items()
            if colors.get(color, train) != train  # unknown, a mask with it cannot be read
        ]
    if changes:
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise BinsegError(
            f"{source}: the classes have changed since the run in {folder} began: "
            f"{'; '.join(changes[:3])}{more}; restore them, or choose another --out"
        )
    added = sorted(new_ids.keys() - ids.keys(), key=int)
    return [f"{source}: new ids of masks: {', '.join(added)}"] if ids and added else []


def _written(folder: Path) -> ClassTable | None:
    """The table in a run folder; of a run that wrote none, the one in its best network's file."""
    path = folder / CLASSES
    try:
        table: ClassTable = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(table["names"], list) or not isinstance(
            table.get("raw_to_train", {}), dict
        ):
            raise TypeError("no table of classes")
        return table
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BinsegError(
            f"{path}: cannot be read ({type(error).__name__}); train again into another --out"
        ) from error
    if not (folder / BEST).exists():
        return None
    header = read_header(folder / BEST)
    return header["labels"] if "labels" in header else {"names": header["classes"]}


def _renamed(before: list[str], now: list[str]) -> list[str]:
    if len(before) != len(now):
        return [f"there were {len(before)} classes and are {len(now)}"]
    return [
        f"class {place} was '{old}' and is '{new}'"
        for place, (old, new) in enumerate(zip(before, now, strict=True))
        if old != new
    ]


def _class(train: int | None, names: list[str]) -> str:
    if train is None:
        return "unknown"
    return f"'{names[train]}'" if train < len(names) else "ignored"
