"""Scatter charts of val mIoU over time, bytes and operations."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from binseg.atomic import atomic_path
from binseg.compare.rows import Row, pareto_front
from binseg.fonts import drawable

_BINARY, _REAL, _INT8, _FRONT = "#d9772b", "#4878a8", "#6a994e", "#9aa0a6"
_KINDS = ("binary", "full precision", "8 bits")
_SPOTS = [
    (dx * reach, dy * reach)
    for reach in (1, 2, 3.5, 5, 7)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.8), (-0.7, 0.8), (0.7, -0.8),
                   (-0.7, -0.8))
]  # fmt: skip
"""Where a label may stand around its point, the better places first."""

_GAP = 7.0
"""Pixels from a point to the nearest place of its label."""

_Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in pixels."""


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write a PNG with three panels: val mIoU over milliseconds, megabytes and operations.

    Binary networks are circles, full-precision ones squares, and triangles in 8 bits (whose file
    has a byte a parameter). A line joins the networks that no other one beats in both. A network
    without a figure is left out of that panel.

    Args:
        rows: one point each.
        title: above all.
        path: ends in .png.
    """
    # half a second that --help need not wait
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 15), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9)
    labels = (
        "milliseconds",
        "megabytes of the model file",
        "operations: real GMACs + 1-bit GMACs / 64",
    )
    shown = []
    for panel, (axis, label) in enumerate(zip(figure.subplots(3, 1), labels, strict=True)):
        points = [point for row in rows for point in _points(row, panel)]
        _scatter(axis, points)
        axis.set_xlabel(f"{label} (log)")
        shown.append((axis, points))
    canvas.draw()  # places the axes, so that pixels mean something
    for axis, points in shown:
        _label(axis, [(each.cost, each.miou) for each in points], [each.name for each in points])
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


class _Point(NamedTuple):
    name: str
    kind: str
    cost: float
    miou: float


def _points(row: Row, panel: int) -> Iterator[_Point]:
    """A network's points in a panel: its own, and in 8 bits where that was measured."""
    cost = (row.milliseconds, row.bytes and row.bytes / 1e6, row.operations / 1e9)[panel]
    if cost is not None:
        yield _Point(row.name, _KINDS[0] if row.binary else _KINDS[1], cost, row.miou)
    parameters = row.binary_parameters + row.real_parameters
    cost = (row.int8_milliseconds, parameters / 1e6, None)[panel]
    if cost is not None and row.int8_miou is not None:
        yield _Point(f"{row.name} int8", _KINDS[2], cost, row.int8_miou.value)


def _scatter(axis: Any, points: Sequence[_Point]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for kind, color, marker in zip(_KINDS, (_BINARY, _REAL, _INT8), "os^", strict=True):
        own = [(each.cost, each.miou) for each in points if each.kind == kind]
        if own:
            axis.scatter(*zip(*own, strict=True), c=color, marker=marker, label=kind, zorder=3)
    places = [(each.cost, each.miou) for each in points]
    front = [places[index] for index in pareto_front(places)]
    if front:
        axis.plot(*zip(*front, strict=True), color=_FRONT, linewidth=1, label="Pareto front")
        axis.legend(fontsize=8, loc="best")
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.set_ylabel("val mIoU")
    axis.margins(x=0.15, y=0.15)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _label(axis: Any, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Write the names beside their points, where they cover least of each other."""
    from matplotlib.font_manager import FontProperties

    pixels = [tuple(axis.transData.transform(point)) for point in points]
    taken: list[_Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in pixels]
    bounds = axis.get_window_extent()
    frame: _Box = (bounds.x0, bounds.y0, bounds.x1, bounds.y1)
    legend = axis.get_legend()
    if legend is not None:
        box = legend.get_window_extent()
        taken.append((box.x0, box.y0, box.x1, box.y1))
    for point, (x, y), name in zip(points, pixels, drawable(names), strict=True):
        # the font that has the name's letters; $…$ are letters, too
        font = FontProperties(fname=name.file, size=8) if name.file else FontProperties(size=8)
        look = {"fontproperties": font, "parse_math": False, "ha": "center", "va": "center"}
        text = axis.annotate(name.text, point, **look)
        extent = text.get_window_extent()
        place = _best_place((x, y), (extent.width, extent.height), taken, frame)
        taken.append(place)
        center = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
        text.remove()
        axis.annotate(
            name.text,
            point,
            xytext=axis.transData.inverted().transform(center),
            arrowprops={"arrowstyle": "-", "color": _FRONT, "linewidth": 0.6},
            **look,
        )


def _best_place(
    point: tuple[float, float], size: tuple[float, float], taken: Sequence[_Box], frame: _Box
) -> _Box:
    """The first place around `point` for a label of `size` that covers nothing, or least."""
    width, height = size
    places = []
    for dx, dy in _SPOTS:
        x = point[0] + dx * _GAP + (width / 2 if dx > 0 else -width / 2 if dx < 0 else 0)
        y = point[1] + dy * (_GAP + height / 2)
        places.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))

    def cost(box: _Box) -> float:
        covered = sum(_covered(box, other) for other in taken)
        outside = width * height - _covered(box, frame)
        return round(covered + 10 * outside)  # rounding errors must not choose

    return min(places, key=cost)


def _covered(one: _Box, other: _Box) -> float:
    """Square pixels that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
