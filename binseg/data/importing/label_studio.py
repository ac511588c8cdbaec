"""Label Studio: the JSON export, with brushes, polygons and rectangles."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from binseg.data.importing.found_images import ImageIndex
from binseg.data.importing.json_files import peek_json, read_json
from binseg.data.importing.source import AnnotatedImage, Notes, Overlap, Region
from binseg.data.label_table import Color
from binseg.errors import BinsegError

_LARGEST_SIDE = 65535
_KINDS = ("brushlabels", "polygonlabels", "rectanglelabels")


class LabelStudio:
    """See `Source`. Only the first annotation of a task that was not cancelled is read."""

    title = "Label Studio JSON"
    overlap: Overlap = "later"
    covers = False
    colors: tuple[Color, ...] | None = None
    classes: tuple[str, ...] = ()

    def __init__(self, path: Path, images: ImageIndex) -> None:
        self._path = path
        self._tasks: list[dict[str, Any]] = read_json(path)
        self._images = images
        self.notes = Notes()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for number, task in enumerate(self._tasks, 1):
            try:
                found = self._task(task)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise BinsegError(
                    f"{self._path}: task {number} cannot be read ({str(error)[:80]}); export the "
                    "project again as JSON"
                ) from error
            if found is not None:
                yield found
        self._images.note_unused(self.notes)

    def _task(self, task: dict[str, Any]) -> AnnotatedImage | None:
        names = [value for value in task["data"].values() if isinstance(value, str)]
        done = [each for each in task["annotations"] if not each.get("was_cancelled")]
        if not done:
            self.notes.add("tasks without an annotation: left out", str(names[:1]))
            return None
        image = next((found for name in names if (found := self._images.find(name))), None)
        if image is None:
            self.notes.add("annotated images are missing: left out (see --images)", names[0])
            return None
        if len(done) > 1:
            self.notes.add("tasks with several annotations: the first was taken", image.stem)
        size: tuple[int, int] | None = None
        regions = []
        for result in done[0]["result"]:
            kind = result.get("type")
            if kind not in _KINDS:
                self.notes.add(f"results of type '{kind}' have no area: left out", image.stem)
                continue
            size = int(result["original_height"]), int(result["original_width"])
            if not all(0 < side <= _LARGEST_SIDE for side in size):
                raise ValueError(f"an image of {size[1]} × {size[0]} pixels")
            regions.append(_region(kind, result["value"], size))
        return AnnotatedImage(image.stem, image, regions, size)


def is_export(path: Path) -> bool:
    """Whether a file is a Label Studio export."""
    head = peek_json(path).lstrip()
    return head.startswith("[") and any(key in head for key in ('"data"', '"annotations"'))


def _region(kind: str, value: dict[str, Any], size: tuple[int, int]) -> Region:
    label = str(value[kind][0])
    height, width = size
    if kind == "brushlabels":
        return Region(label, bitmap=decode_brush(value["rle"], size))
    if kind == "polygonlabels":
        points = np.asarray(value["points"], np.float64).reshape(-1, 2)
    else:
        if value.get("rotation"):
            raise ValueError("a rotated rectangle; convert it to a polygon")
        x, y, w, h = (float(value[key]) for key in ("x", "y", "width", "height"))
        points = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    return Region(label, (points / 100 * (width, height),))


def decode_brush(values: list[int], size: tuple[int, int]) -> np.ndarray:
    """A brush's run lengths as bool (H, W).

    They are a stream of bits: 32 for the count of numbers, 5 for the size of a number (less one),
    four times 4 for the sizes of run lengths (less one); then runs: a bit (1: one number repeated,
    0: numbers as they are), 2 bits that choose the size, the length less one, the numbers. The
    numbers are the bytes of an RGBA image, whose last channel is the mask.

    Raises:
        ValueError: the stream ends early or has another length.
    """
    bits = np.unpackbits(np.asarray(values, np.uint8))
    position = 0

    def read(count: int) -> int:
        nonlocal position
        if position + count > len(bits):
            raise ValueError("run lengths that end early")
        part = bits[position : position + count]
        position += count
        return int(part @ (1 << np.arange(count - 1, -1, -1, dtype=np.int64)))

    total = read(32)
    if total != size[0] * size[1] * 4:
        raise ValueError(f"run lengths of {total // 4} pixels, not {size[0] * size[1]}")
    width = read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out = np.zeros(total, np.uint8)
    at = 0
    while at < total:
        repeated = read(1)
        end = min(at + 1 + read(sizes[read(2)]), total)
        if repeated:
            out[at:end] = read(width) & 0xFF
        else:
            for place in range(at, end):
                out[place] = read(width) & 0xFF
        at = end
    return out.reshape(*size, 4)[:, :, 3] > 0
