"""The rows as a table: on the screen, in Markdown, as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from binseg.compare.rows import Row
from binseg.summarize.tables import count

if TYPE_CHECKING:
    from rich.table import Table

_NOT_PACKED = "not packed"
_COLUMNS = (
    "network",
    "mIoU trained",
    "shipped",
    "ms",
    "× faster",
    "MB",
    "1-bit GMACs",
    "real GMACs",
    "params",
    "minutes",
)
_FIGURES = (
    "network", "binary", "seeds", "trained_miou", "trained_deviation", "shipped_miou",
    "shipped_deviation", "milliseconds", "baseline", "faster", "bytes", "binary_macs", "real_macs",
    "binary_parameters", "real_parameters", "minutes", "not_packed",
)  # fmt: skip


@dataclass(frozen=True)
class Conditions:
    """What a reader of the table must know.

    Attributes:
        size: height and width of the picture that is timed, in pixels.
        threads: that it is timed on.
        rest: how binary networks are packed.
        reference: the row that networks without a twin are compared with.
    """

    size: tuple[int, int]
    threads: int
    rest: str
    reference: str | None

    def __str__(self) -> str:
        height, width = self.size
        lines = [
            "val mIoU: trained, by the run's own validation; shipped, of the file (packed with "
            f"rest {self.rest}, or float)",
            f"ms and MACs: a picture of {height} × {width} to its class map, threads: "
            f"{self.threads}",
            "× faster: than the full-precision twin",
        ]
        if self.reference is not None:
            lines[-1] += f"; with *: than {self.reference}"
        return "\n".join(lines)


def screen_table(rows: Iterable[Row], conditions: Conditions) -> "Table":
    """For a screen of 100 columns or more."""
    from rich import box
    from rich.table import Table

    table = Table(
        caption=str(conditions), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for column in _COLUMNS:
        first = column == _COLUMNS[0]
        # one word a line: the figures below are narrow
        header = column if first else column.replace(" ", "\n")
        table.add_column(
            header, justify="left" if first else "right", overflow="fold", no_wrap=not first
        )
    for row in rows:
        table.add_row(*_cells(row, conditions))
    return table


def markdown(rows: Iterable[Row], conditions: Conditions) -> str:
    """A table as GitHub shows it, and below it what its figures mean."""
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        f"|---|{'---:|' * (len(_COLUMNS) - 1)}",
        *(f"| {' | '.join(_cells(row, conditions))} |" for row in rows),
    ]
    notes = [f"- {line}" for line in str(conditions).replace("*", "\\*").splitlines()]
    return "\n".join([*lines, "", *notes]) + "\n"


def csv_text(rows: Sequence[Row]) -> str:
    """Unrounded figures, a line for each row; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FIGURES)
    for row in rows:
        trained, shipped = row.trained_miou, row.shipped_miou
        writer.writerow(
            [
                row.name,
                int(row.binary),
                len(row.outcomes),
                *((trained.value, trained.deviation) if trained else ("", "")),
                *((shipped.value, shipped.deviation) if shipped else ("", "")),
                row.milliseconds,
                row.baseline,
                row.faster,
                row.bytes,
                row.binary_macs,
                row.real_macs,
                row.binary_parameters,
                row.real_parameters,
                row.minutes,
                row.not_packed,
            ]
        )
    return text.getvalue()


def _cells(row: Row, conditions: Conditions) -> list[str]:
    mark = "*" if row.baseline is not None and row.baseline == conditions.reference else ""
    return [
        row.name,
        str(row.trained_miou),
        str(row.shipped_miou or _NOT_PACKED),
        "" if row.milliseconds is None else f"{row.milliseconds:.1f}",
        "" if row.faster is None else f"{row.faster:.1f}{mark}",
        "" if row.bytes is None else f"{row.bytes / 1e6:.2f}",
        f"{row.binary_macs / 1e9:.3g}" if row.binary_macs else "",
        f"{row.real_macs / 1e9:.3g}",
        count(row.binary_parameters + row.real_parameters),
        f"{row.minutes:.1f}",
    ]
