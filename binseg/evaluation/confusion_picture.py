"""The confusion matrix as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from binseg.data.imageio import write_image
from binseg.evaluation.scores import Scores
from binseg.fonts import Drawable, drawable
from binseg.visualize import shortened

_MOST_NUMBERED = 60
"""Classes up to which the cells hold numbers. With 255, numbers would be 65,000 texts on a picture
of 13,000 pixels a side."""

_LONGEST_NAME = 24
_INK, _PAPER, _ABSENT = (25, 25, 25), (255, 255, 255), (229, 229, 229)
_BLUES = ((247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))
"""ColorBrewer's Blues at 0, 25, 50, 75 and 100 %."""


@dataclass(frozen=True)
class _Measures:
    """Sizes in pixels."""

    cell: int
    line: int  # white, between cells
    letters: int  # height of names
    numbers: int  # height of numbers in cells; 0: none

    @property
    def step(self) -> int:
        """From one cell to the next."""
        return self.cell + self.line


def draw_confusion(scores: Scores, path: str | Path, title: str = "") -> None:
    """Draw the matrix, each row divided by its sum: how a class's true pixels were predicted.

    A class that is not in the truth has a grey row. The diagonal is the class's accuracy; its IoU
    stands beside the name. Cells of half a per cent or more hold their number; above 60 classes
    the shares are colours alone.

    Args:
        scores: holds the matrix, the class names and IoUs.
        path: the PNG to write; whole or not at all.
        title: a line above the matrix; the mean IoU is added.
    """
    write_image(path, confusion_picture(scores, title))


def confusion_picture(scores: Scores, title: str = "") -> np.ndarray:
    """`draw_confusion`'s picture, HWC uint8 RGB."""
    counts = np.asarray(scores.matrix, dtype=np.float64)
    pixels = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, pixels, out=np.full_like(counts, np.nan), where=pixels > 0)
    measures = _Measures(cell=49, line=1, letters=15, numbers=13)
    if len(shares) > _MOST_NUMBERED:
        measures = _Measures(cell=17, line=1, letters=13, numbers=0)

    names = [
        replace(name, text=shortened(name.text, _LONGEST_NAME)) for name in drawable(scores.names)
    ]
    rows = [
        replace(name, text=f"{name.text}  {_percent(iou)}")
        for name, iou in zip(names, scores.iou, strict=True)
    ]
    heading = drawable([*[title] * bool(title), f"mIoU {_percent(scores.mean_iou)} %"])
    captions = drawable(["true class, IoU in %", "predicted class"])

    matrix = _matrix(shares, measures)
    left = _right_aligned([*rows, captions[0]], measures, captions_last=True)
    below = _right_aligned(names, measures).rotate(90, expand=True)
    scale = _scale(measures, matrix.height)
    edge = 2 * measures.letters
    top = edge * (len(heading) + 1)
    width = max(left.width + matrix.width + scale.width, *(_length(each, 20) for each in heading))
    bottom = top + matrix.height + measures.letters // 2
    size = (width + 2 * edge, bottom + below.height + 2 * edge)
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(heading):
        draw.text((edge, edge // 2 + number * edge), line.text, _INK, line.font(18))
    x = edge + left.width
    picture.paste(left, (edge, top))
    picture.paste(matrix, (x, top))
    picture.paste(scale, (x + matrix.width, top))
    picture.paste(below, (x, bottom))
    place = (x, bottom + below.height + measures.letters // 2)
    draw.text(place, captions[1].text, _INK, captions[1].font(measures.letters))
    return np.asarray(picture)


def _matrix(shares: np.ndarray, measures: _Measures) -> Image.Image:
    """A square for each share, with white lines between; nan is grey."""
    colors = _colors(np.nan_to_num(shares))
    colors[np.isnan(shares)] = _ABSENT
    cells = colors.repeat(measures.step, axis=0).repeat(measures.step, axis=1)
    for each in range(measures.line):
        cells[measures.cell + each :: measures.step] = _PAPER
        cells[:, measures.cell + each :: measures.step] = _PAPER
    picture = Image.fromarray(cells)
    if not measures.numbers:
        return picture
    draw = ImageDraw.Draw(picture)
    font = drawable(["0"])[0].font(measures.numbers)
    for row, column in zip(*np.nonzero(np.nan_to_num(shares) >= 0.005), strict=True):
        share = shares[row, column]
        ink = _PAPER if share > 0.55 else _INK
        middle = (
            column * measures.step + measures.cell // 2,
            row * measures.step + measures.cell // 2,
        )
        draw.text(middle, f"{100 * share:.0f}", ink, font, anchor="mm")
    return picture


def _colors(shares: np.ndarray) -> np.ndarray:
    """uint8 (…, 3): the colours of shares from 0 to 1."""
    at = np.linspace(0, 1, len(_BLUES))
    parts = [np.interp(shares, at, [color[part] for color in _BLUES]) for part in range(3)]
    return np.stack(parts, axis=-1).round().astype(np.uint8)


def _right_aligned(
    lines: Sequence[Drawable], measures: _Measures, *, captions_last: bool = False
) -> Image.Image:
    """Lines of text as high as cells, each ending beside its own.

    Args:
        captions_last: the last line names the others, and comes a little below them.
    """
    gap = measures.letters // 2
    width = max(_length(line, measures.letters) for line in lines) + gap
    count = len(lines) - captions_last
    extra = measures.step if captions_last else 0
    picture = Image.new("RGB", (width, count * measures.step + extra), _PAPER)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        y = number * measures.step + measures.cell // 2
        font = line.font(measures.letters)
        draw.text((width - gap, y), line.text, _INK, font, anchor="rm")
    return picture


def _scale(measures: _Measures, height: int) -> Image.Image:
    """A bar of the colours with what they mean, at most as high as the matrix."""
    height = min(height, 20 * measures.letters)
    labels = drawable(["100 %", "50 %", "0 %"])
    bar, gap = measures.letters, measures.letters // 2
    width = max(_length(label, measures.letters) for label in labels)
    picture = Image.new("RGB", (bar + 4 * gap + width, height + 2 * bar), _PAPER)
    colors = _colors(np.linspace(1, 0, height))[:, None].repeat(bar, axis=1)
    picture.paste(Image.fromarray(colors), (2 * gap, 0))
    draw = ImageDraw.Draw(picture)
    for number, (label, anchor) in enumerate(zip(labels, ("lt", "lm", "lb"), strict=True)):
        place = (bar + 3 * gap, number * height // 2)
        draw.text(place, label.text, _INK, label.font(measures.letters), anchor=anchor)
    return picture


def _length(line: Drawable, size: int) -> int:
    return round(line.font(size).getlength(line.text)) + 1


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"
