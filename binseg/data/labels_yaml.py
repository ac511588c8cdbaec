"""Reads labels.yaml: the label table of people's own data, written by hand."""

from pathlib import Path
from typing import Any

import yaml

from binseg.data.label_table import IGNORE, Color, LabelTable, as_color, as_int, auto_palette
from binseg.errors import BinsegError


def read_labels_yaml(path: str | Path) -> LabelTable:
    """A table for people's own data, written by hand as `labels.yaml`.

    ```yaml
    name: my streets              # optional; the folder's name when missing
    classes:                      # train ids in this order
      - name: road
        color: [128, 64, 128]     # optional: R, G, B from 0 to 255, or "#804080"
        id: 7                     # raw id or list of raw ids; the place in the list if missing
      - {name: car, id: [26, 27]}
      - person                    # short for {name: person}
    ignore: [0, 255]              # raw ids that never count; [255] when missing
    ```

    Masks may hold colours in place of ids if each class has a colour of its own here; colours that
    never count stand in `ignore`, too, as "#000000".

    Missing colours are spread over the colour circle, light and dark in turns.

    Raises:
        BinsegError: the file cannot be read or says something that makes no sense; one line
            with the file, the entry and the remedy.
    """
    path = Path(path)
    try:
        # from bytes: YAML itself knows UTF-8 and UTF-16 by their marks
        data = yaml.load(path.read_bytes(), Loader=_UniqueKeys)
    except OSError as error:
        raise BinsegError(
            f"{path}: cannot be read ({error.strerror or error}); write one with the classes "
            "of your masks, for example `classes: [road, car]`"
        ) from error
    except yaml.reader.ReaderError as error:
        raise BinsegError(f"{path}: not UTF-8 text; save it as UTF-8") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        why = f" ({error.problem})" if isinstance(error, _RepeatedKeyError) else ""
        raise BinsegError(f"{path}: not valid YAML{where}{why}; correct the file") from error
    try:
        return _parse(data, path)
    except (TypeError, ValueError) as error:
        raise BinsegError(f"{path}: {error}") from error
    except BinsegError as error:
        raise BinsegError(f"{path}: {error}") from error


def _parse(data: Any, path: Path) -> LabelTable:
    """The table that the file says; raises TypeError or ValueError with a message for people."""
    if not isinstance(data, dict) or not isinstance(data.get("classes"), list):
        raise TypeError("needs a list `classes:`, for example `classes: [road, car]`")
    if unknown := [str(key) for key in data if key not in ("name", "classes", "ignore")]:
        raise ValueError(f"unknown key '{unknown[0]}' (known: name, classes, ignore)")
    names: list[str] = []
    palette: list[Color] = []
    mapping: dict[int, int] = {}
    colors: dict[Color, int] = {}
    automatic = auto_palette(len(data["classes"]))
    for train, entry in enumerate(data["classes"]):
        entry = {"name": entry} if not isinstance(entry, dict) else entry
        if unknown := [str(key) for key in entry if key not in ("name", "color", "id")]:
            raise ValueError(
                f"class {train + 1}: unknown key '{unknown[0]}' (known: name, color, id)"
            )
        name = _class_name(entry.get("name"), train + 1)
        names.append(name)
        palette.append(_color_of(entry["color"], name) if "color" in entry else automatic[train])
        if "color" in entry:
            colors.setdefault(palette[-1], train)
        for raw in _id_list(entry.get("id", train), f"class '{name}'"):
            if raw in mapping:
                raise ValueError(
                    f"id {raw} belongs to both '{names[mapping[raw]]}' and '{names[-1]}'"
                )
            mapping[raw] = train
    ignored, ignored_colors = _ignored(data.get("ignore", []), "ignore" in data)
    for color in ignored_colors:
        if color in colors:
            raise ValueError(f"colour {color} is both ignored and class '{names[colors[color]]}'")
    # in colours that two classes share, or that one lacks, no mask can be read
    if len(colors) < len(names):
        colors = {}
    elif colors:
        colors |= dict.fromkeys(ignored_colors, IGNORE)
    for raw in [IGNORE] if ignored is None else ignored:
        if raw in mapping:
            # only a default 255 may give way to a class that wants the id for itself
            if ignored is None:
                continue
            raise ValueError(f"id {raw} is both ignored and class '{names[mapping[raw]]}'")
        mapping[raw] = IGNORE
    title = data.get("name", path.resolve().parent.name)
    return LabelTable(str(title), tuple(names), tuple(palette), mapping, colors)


def _ignored(value: Any, given: bool) -> tuple[list[int] | None, list[Color]]:
    """Ids and colours that never count; None where nothing is said of ids."""
    entries = value if isinstance(value, list) else [value]
    colors = [entry for entry in entries if isinstance(entry, str) and entry.startswith("#")]
    ids = [entry for entry in entries if entry not in colors] if colors else value
    silent = not given or (colors and not ids)
    return None if silent else _id_list(ids, "ignore"), [as_color(color) for color in colors]


def _class_name(value: Any, number: int) -> str:
    if isinstance(value, bool):
        raise TypeError(
            f"class {number} needs a `name:` that is text; YAML reads yes, no, on and off as truth "
            "values: put the name in quotes"
        )
    if not isinstance(value, str):
        raise TypeError(f"class {number} needs a `name:` that is text (quote it if need be)")
    name = value.strip()
    if not name or not name.isprintable():
        raise ValueError(f"class {number}: the name {value!r} must be one line of visible text")
    return name


def _color_of(value: Any, name: str) -> Color:
    """The colour of class `name`, with the class in the message if it is none."""
    if value is None:
        raise TypeError(
            f"class '{name}': `color:` is empty; put a colour like '#804080' in quotes, YAML takes "
            "what follows a bare # for a remark"
        )
    try:
        return as_color(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"class '{name}': {error}") from error


def _id_list(value: Any, where: str) -> list[int]:
    ids = value if isinstance(value, list) else [value]
    try:
        return [as_int(raw) for raw in ids]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: ids are integers, not {value!r}") from error


class _RepeatedKeyError(yaml.constructor.ConstructorError):
    """A key stands twice in one mapping, of which YAML would silently take the last."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML whose mappings have each key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    text = f"'{key.value}' stands twice"
                    raise _RepeatedKeyError(None, None, text, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)
