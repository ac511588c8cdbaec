"""Class maps as images: colours, overlays, legends and comparison strips.

Everything here takes and gives numpy arrays: images are HWC uint8 RGB in [0, 255], class maps
HW uint8 train ids with 255 (`IGNORE`) for pixels that have no label.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from binseg.data.labels import IGNORE, IGNORE_COLOR, LabelTable
from binseg.data.preprocess import resize_image, resize_labels
from binseg.fonts import Drawable, drawable

ERROR_COLOR = (230, 30, 40)
_PAPER = (255, 255, 255)
_INK = (25, 25, 25)
_FRAME = (120, 120, 120)
_LONGEST_NAME = 32
_STRIP = 256
"""Rows that are mixed at a time, so that large images need no large numbers in between."""


def colorize(class_map: np.ndarray, palette: Iterable[Sequence[int]]) -> np.ndarray:
    """The class map in the colours of `palette`.

    Args:
        class_map: HW uint8 class ids.
        palette: RGB colour in [0, 255] of each class, in the order of the ids.

    Returns:
        HWC uint8 RGB; 255 and ids beyond the palette have the colour `IGNORE_COLOR`.
    """
    colors = np.asarray(list(palette), dtype=np.uint8).reshape(-1, 3)[:IGNORE]
    table = np.full((256, 3), IGNORE_COLOR, dtype=np.uint8)
    table[: len(colors)] = colors
    # many times as fast as numpy's indexing
    image = Image.fromarray(np.ascontiguousarray(class_map))
    image.putpalette(table.tobytes())
    return np.array(image.convert("RGB"))


def overlay(
    image: np.ndarray, class_map: np.ndarray, labels: LabelTable, alpha: float = 0.5
) -> np.ndarray:
    """The image with its class colours laid over it: `(1 − alpha) · image + alpha · colours`.

    Args:
        image: HWC uint8 RGB.
        class_map: HW uint8 class ids, of the image's size.
        labels: the table that names and colours the ids.
        alpha: strength of the colours, 0 (the image alone) to 1 (the colours alone).

    Returns:
        HWC uint8 RGB, of the image's size.

    Raises:
        ValueError: the two sizes differ, or `alpha` is outside [0, 1].
    """
    if image.shape[:2] != class_map.shape:
        raise ValueError(
            f"image is {_size(image)} but the class map is {_size(class_map)} (width x height)"
        )
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must lie in [0, 1], not {alpha}")
    colors = colorize(class_map, labels.palette)
    for rows in _strips(len(image)):
        mixed = image[rows] * np.float32(1 - alpha)
        mixed += colors[rows] * np.float32(alpha)
        colors[rows] = np.rint(mixed, out=mixed)
    return colors


def legend(
    labels: LabelTable,
    present: np.ndarray | None = None,
    *,
    width: int | None = None,
    font_size: int = 16,
) -> np.ndarray:
    """A white panel with one swatch and name for each class.

    Args:
        labels: the table that names and colours the ids; a name in a script that no font here has
            is transliterated, with a `BinsegWarning`.
        present: a class map: only the classes in it are listed, and "no label" where it holds
            255. All classes if None.
        width: width in pixels that the entries are wrapped into, in as many columns as fit; one
            column if None. A panel too narrow for its longest name is made wider than this.
        font_size: height of the text in pixels.

    Returns:
        HWC uint8 RGB.
    """
    entries = _entries(labels, present)
    fonts = [name.font(font_size) for name, _ in entries]
    gap = max(2, font_size // 2)
    line = font_size + gap
    lengths = [font.getlength(name.text) for font, (name, _) in zip(fonts, entries, strict=True)]
    column = round(max(lengths, default=0)) + font_size + 2 * gap
    columns = max(1, ((width or 0) - gap) // column)
    columns = min(columns, max(1, len(entries)))
    rows = -(-len(entries) // columns)
    panel, draw = _paper(max(width or 0, gap + columns * column), rows * line + gap)
    for index, (font, (name, color)) in enumerate(zip(fonts, entries, strict=True)):
        x, y = gap + (index // rows) * column, gap + (index % rows) * line
        swatch = (x, y, x + font_size - 1, y + font_size - 1)
        draw.rectangle(swatch, fill=tuple(color), outline=_FRAME)
        place = (x + font_size + gap // 2, y + font_size // 2)
        draw.text(place, name.text, _INK, font, anchor="lm")
    return np.asarray(panel)


def overlay_with_legend(
    image: np.ndarray,
    class_map: np.ndarray,
    labels: LabelTable,
    alpha: float = 0.5,
    *,
    longest_side: int = 4096,
) -> np.ndarray:
    """The overlay with a legend of the classes in it, below a wide image, beside a tall one.

    An image too small to be seen is magnified by a whole factor; one too large for a viewer is
    shrunk.

    Args:
        image: HWC uint8 RGB.
        class_map: HW uint8 class ids, of the image's size.
        labels: the table that names and colours the ids.
        alpha: strength of the colours, 0 to 1.
        longest_side: longest side of the overlay in pixels, without the legend.

    Returns:
        HWC uint8 RGB, larger than the image by the legend.
    """
    shown = _into_view(overlay(image, class_map, labels, alpha), longest_side)
    height, width = shown.shape[:2]
    font_size = int(np.clip(max(height, width) / 45, 13, 64))
    if height > width:
        key = legend(labels, class_map, font_size=font_size)
        return _joined([shown, key], axis=1)
    return _joined([shown, legend(labels, class_map, width=width, font_size=font_size)], axis=0)


def comparison(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    labels: LabelTable,
    *,
    panel: int = 480,
    columns: int | None = None,
) -> np.ndarray:
    """A titled strip: image | truth | prediction | errors, with a legend below.

    Errors are red on the dimmed grey image; pixels without a label have `IGNORE_COLOR` in the
    truth and count neither as right nor as wrong.

    Args:
        image: HWC uint8 RGB, of any size.
        truth: HW uint8 train ids, 255 for no label.
        prediction: HW uint8 train ids, of the truth's size.
        labels: the table that names and colours the ids.
        panel: longest side of each of the four panels in pixels.
        columns: panels in a row; chosen by the image's aspect if None.

    Returns:
        HWC uint8 RGB.

    Raises:
        ValueError: truth and prediction differ in size.
    """
    if truth.shape != prediction.shape:
        raise ValueError(
            f"truth is {_size(truth)} but the prediction is {_size(prediction)} (width x height)"
        )
    factor = panel / max(image.shape[:2])
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    small = resize_image(image, (height, width))
    counted = truth != IGNORE
    wrong = counted & (truth != prediction)
    # an error a pixel wide must not vanish between the samples of a smaller panel
    errors = resize_image(wrong.astype(np.uint8) * 255, (height, width)) >= 64
    grey = (small.mean(axis=2, keepdims=True) * 0.5 + 100).astype(np.uint8).repeat(3, axis=2)
    grey[errors] = ERROR_COLOR
    share = wrong.sum() / counted.sum() if counted.any() else 0.0
    maps = (resize_labels(ids, (height, width)) for ids in (truth, prediction))
    true_colors, predicted_colors = (colorize(ids, labels.palette) for ids in maps)
    font_size = max(14, panel // 32)
    panels = [
        _titled(small, "image", font_size),
        _titled(true_colors, "truth", font_size),
        _titled(predicted_colors, "prediction", font_size),
        _titled(grey, f"errors {share:.1%}", font_size),
    ]
    if columns is None:
        columns = 4 if width < 1.7 * height else 2 if width < 4 * height else 1
    rows = [_joined(panels[at : at + columns], axis=1) for at in range(0, 4, columns)]
    grid = _joined(rows, axis=0)
    seen = np.union1d(np.unique(truth), np.unique(prediction)).astype(np.uint8)
    return _joined([grid, legend(labels, seen, width=grid.shape[1], font_size=font_size)], axis=0)


def shortened(name: str, longest: int) -> str:
    """The name on one line, of at most `longest` characters; its middle gives way to "…", because
    names that begin alike often end differently."""
    name = " ".join(name.split())
    if len(name) <= longest:
        return name
    tail = (longest - 1) // 2
    return f"{name[: longest - 1 - tail]}…{name[-tail:]}"


def _entries(
    labels: LabelTable, present: np.ndarray | None
) -> list[tuple[Drawable, tuple[int, int, int]]]:
    """Name and colour of each legend line, in the order of the ids."""
    ids = range(labels.num_classes) if present is None else np.unique(present).tolist()
    known = [index < labels.num_classes for index in ids]
    names = drawable(
        labels.names[index] if is_class else "no label"
        for index, is_class in zip(ids, known, strict=True)
    )
    entries = []
    for index, is_class, name in zip(ids, known, names, strict=True):
        red, green, blue = labels.palette[index] if is_class else IGNORE_COLOR
        short = replace(name, text=shortened(name.text, _LONGEST_NAME))
        entries.append((short, (int(red), int(green), int(blue))))
    return entries


def _paper(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    panel = Image.new("RGB", (width, height), _PAPER)
    return panel, ImageDraw.Draw(panel)


def _titled(image: np.ndarray, title: str, font_size: int) -> np.ndarray:
    """The image under one line of text, on paper at least as wide as the text."""
    (name,) = drawable([title])
    font = name.font(font_size)
    text = round(font.getlength(name.text)) + font_size
    bar, draw = _paper(max(text, image.shape[1]), font_size + 10)
    draw.text((4, (font_size + 10) // 2), name.text, _INK, font, anchor="lm")
    return _joined([np.asarray(bar), image], axis=0, gap=0)


def _joined(images: Sequence[np.ndarray], axis: int, gap: int = 6) -> np.ndarray:
    """Images one below the other (axis 0) or side by side (axis 1), on white paper."""
    across = max(image.shape[1 - axis] for image in images)
    along = sum(image.shape[axis] for image in images) + gap * (len(images) - 1)
    shape = (along, across, 3) if axis == 0 else (across, along, 3)
    canvas = np.full(shape, _PAPER, dtype=np.uint8)
    start = 0
    for image in images:
        y, x = (start, 0) if axis == 0 else (0, start)
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
        start += image.shape[axis] + gap
    return canvas


def _strips(rows: int) -> Iterable[slice]:
    return (slice(start, start + _STRIP) for start in range(0, rows, _STRIP))


def _into_view(image: np.ndarray, longest: int, shortest: int = 240) -> np.ndarray:
    """The image, shrunk to `longest` or magnified by a whole factor to about `shortest`."""
    height, width = image.shape[:2]
    side = max(height, width)
    if side > longest:
        height, width = (max(1, round(length * longest / side)) for length in (height, width))
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
    factor = max(1, min(shortest, longest) // side)
    return image.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else image


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
