"""The rows as a table: on the screen, in Markdown, as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from binseg.compare.rows import Mean, Row
from binseg.evaluation.bootstrap import BLOCK, Interval
from binseg.summarize.tables import count

if TYPE_CHECKING:
    from rich.table import Table

_NETWORK, _NOT_PACKED = "network", "not packed"
_FITTING = 10
"""Columns that a screen has room for."""
_MIN_NEEDED = "1-bit GMACs", "real GMACs", "params", "minutes"
"""What a screen leaves out first."""
_FIGURES = (
    "network", "binary", "seeds", "trained_miou", "trained_deviation", "shipped_miou",
    "shipped_deviation", "difference", "difference_deviation", "difference_low", "difference_high",
    "milliseconds", "baseline", "faster", "int8_miou", "int8_milliseconds", "faster_than_int8",
    "bytes", "binary_macs", "real_macs", "binary_parameters", "real_parameters", "minutes",
    "not_packed",
)  # fmt: skip


@dataclass(frozen=True)
class Conditions:
    """What a reader of the table must know.

    Attributes:
        size: height and width of the image that is timed, in pixels.
        threads: that it is timed on.
        other_layers: how binary networks are packed.
        int8: whether full-precision networks are timed in 8 bits, too.
        reference: the row that networks without a twin are compared with.
        against: the row that the others' mIoU is set against; None for no such column.
        folds: that each network was trained for; its mIoU is the mean over them.
    """

    size: tuple[int, int]
    threads: int
    other_layers: str
    int8: bool
    reference: str | None
    against: str | None = None
    folds: tuple[str, ...] = ()

    def differences(self, rows: Sequence[Row]) -> list[Mean | None]:
        """Of each row from `against`; None for that row itself, and where it is not measured."""
        other = next((row for row in rows if row.name == self.against), None)
        return [None if other is None or row is other else row.difference(other) for row in rows]

    def intervals(self, rows: Sequence[Row]) -> list[Interval | None]:
        """Of these differences."""
        other = next((row for row in rows if row.name == self.against), None)
        return [None if other is None or row is other else row.interval(other) for row in rows]

    def __str__(self) -> str:
        height, width = self.size
        lines = [
            "val mIoU: trained, by the run's own validation; shipped, of the file (packed with "
            f"non-binary layers in {self.other_layers}, or float)",
            f"ms and MACs: from an image of {height} × {width}, resized as the network sees it, to "
            f"its class map, threads: {self.threads}",
            "× faster: than the full-precision twin",
        ]
        if self.folds:
            lines.insert(0, f"mIoU: means over the folds {', '.join(self.folds)}")
        if self.reference is not None:
            lines[-1] += f"; with *: than {self.reference}"
        if self.against is not None:
            lines.insert(
                2 if self.folds else 1,
                f"− {self.against}: shipped, less that of {self.against}, by seed; 95 %: where it "
                f"lies for other images (paired bootstrap over blocks of {BLOCK} neighbours)",
            )
        if self.int8:
            lines.append(
                "int8: the full-precision network in 8 bits, quantized after training, by OpenVINO "
                "(or ONNX Runtime, where there is no OpenVINO)"
            )
        return "\n".join(lines)


def screen_table(rows: Sequence[Row], conditions: Conditions) -> "Table":
    """For a screen of 100 columns or more."""
    from rich import box
    from rich.table import Table

    table = Table(
        caption=str(conditions), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    columns = _columns(rows, conditions)
    surplus = len(columns) - _FITTING
    if surplus > 0:  # the files have all of them, and the spread beside its mean
        # one more than the surplus: the spreads' column is wider than what it displaces
        left_out = _MIN_NEEDED[: surplus + 1]
        columns = {
            name: [cell.replace(" ± ", "\n± ").replace(" to ", "\nto ") for cell in cells]
            for name, cells in columns.items()
            if name not in left_out
        }
    for name in columns:
        first = name == _NETWORK
        # one word a line: the figures below are narrow
        header = name if first else name.replace(" ", "\n")
        table.add_column(
            header, justify="left" if first else "right", overflow="fold", no_wrap=not first
        )
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def markdown(rows: Sequence[Row], conditions: Conditions) -> str:
    """Two tables as GitHub shows them: the networks with what the figures mean, and the classes."""
    notes = [f"- {line}" for line in str(conditions).replace("*", "\\*").splitlines()]
    text = "\n".join([*_markdown_table(_columns(rows, conditions)), "", *notes]) + "\n"
    if conditions.folds:
        lines = _markdown_table(_fold_columns(rows, conditions))
        text += (
            "\n".join(["", "mIoU in each fold, of the file that is shipped:", "", *lines]) + "\n"
        )
    classes = _class_columns(rows)
    if classes:
        lines = _markdown_table(classes)
        text += "\n".join(
            ["", "IoU of each class, in %, with the file that is shipped:", "", *lines]
        )
        text += "\n"
    return text


def csv_text(rows: Sequence[Row], conditions: Conditions) -> str:
    """Unrounded figures, a line for each row; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    classes = _classes(rows)
    folds = [f"fold {name}" for name in conditions.folds]
    writer.writerow([*_FIGURES, *folds, *(f"iou {name}" for name in classes)])
    differences, intervals = conditions.differences(rows), conditions.intervals(rows)
    for row, difference, interval in zip(rows, differences, intervals, strict=True):
        means = row.trained_miou, row.shipped_miou, difference
        writer.writerow(
            [
                row.name,
                int(row.binary),
                len(row.seeds),
                *(
                    figure
                    for mean in means
                    for figure in ((mean.value, mean.deviation) if mean else ("", ""))
                ),
                *((interval.low, interval.high) if interval else ("", "")),
                row.milliseconds,
                row.baseline,
                row.faster,
                row.int8_miou.value if row.int8_miou else None,
                row.int8_milliseconds,
                row.faster_than_int8,
                row.bytes,
                row.binary_macs,
                row.real_macs,
                row.binary_parameters,
                row.real_parameters,
                row.minutes,
                row.not_packed,
                *(mean.value if (mean := row.of_fold(fold)) else "" for fold in conditions.folds),
                *(row.class_iou.get(name) for name in classes),
            ]
        )
    return text.getvalue()


def _columns(rows: Sequence[Row], conditions: Conditions) -> dict[str, list[str]]:
    """Header → a cell for each row; those of int8 only where that was measured."""
    marks = [
        "*" if row.baseline is not None and row.baseline == conditions.reference else ""
        for row in rows
    ]
    columns = {
        _NETWORK: [row.name for row in rows],
        "mIoU trained": [str(row.trained_miou) for row in rows],
        "shipped": [str(row.shipped_miou or _NOT_PACKED) for row in rows],
    }
    if conditions.against is not None:
        columns[f"− {conditions.against}"] = [
            each.signed if each else "" for each in conditions.differences(rows)
        ]
        intervals = conditions.intervals(rows)
        if any(intervals):
            columns["95 %"] = [
                f"{each.low:+.3f} to {each.high:+.3f}" if each else "" for each in intervals
            ]
    columns |= {
        "ms": [_figure(row.milliseconds) for row in rows],
        "× faster": [_figure(row.faster, mark) for row, mark in zip(rows, marks, strict=True)],
    }
    if any(row.int8_milliseconds is not None for row in rows):
        columns["int8 mIoU"] = [str(row.int8_miou or "") for row in rows]
        columns["int8 ms"] = [_figure(row.int8_milliseconds) for row in rows]
        columns["× int8"] = [
            _figure(row.faster_than_int8, mark) for row, mark in zip(rows, marks, strict=True)
        ]
    return columns | {
        "MB": ["" if row.bytes is None else f"{row.bytes / 1e6:.2f}" for row in rows],
        "1-bit GMACs": [f"{row.binary_macs / 1e9:.3g}" if row.binary_macs else "" for row in rows],
        "real GMACs": [f"{row.real_macs / 1e9:.3g}" for row in rows],
        "params": [count(row.binary_parameters + row.real_parameters) for row in rows],
        "minutes": [f"{row.minutes:.1f}" for row in rows],
    }


def _fold_columns(rows: Sequence[Row], conditions: Conditions) -> dict[str, list[str]]:
    columns = {_NETWORK: [row.name for row in rows]}
    for fold in conditions.folds:
        columns[fold] = [str(row.of_fold(fold) or "") for row in rows]
    return columns


def _classes(rows: Sequence[Row]) -> list[str]:
    """The classes' names; none if no network was packed."""
    return next((list(row.class_iou) for row in rows if row.class_iou), [])


def _class_columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    """As `_columns`: the IoU of each class, for the rows that have one."""
    measured = [row for row in rows if row.class_iou]
    if not measured:
        return {}
    columns = {_NETWORK: [row.name for row in measured]}
    for name in _classes(rows):
        values = [row.class_iou[name] for row in measured]
        columns[name] = ["" if value is None else f"{100 * value:.1f}" for value in values]
    return columns


def _markdown_table(columns: Mapping[str, Sequence[str]]) -> list[str]:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(map(_cell, cells))} |"

    return [
        line(columns),
        f"|---|{'---:|' * (len(columns) - 1)}",
        *map(line, zip(*columns.values(), strict=True)),
    ]


def _cell(text: str) -> str:
    """The text on one line, without what would end the cell or begin a tag: class names are
    anybody's."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _figure(value: float | None, mark: str = "") -> str:
    return "" if value is None else f"{value:.1f}{mark}"
