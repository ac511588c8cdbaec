"""`binseg data check`: read a whole data set and list every fault."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from binseg.data.check_report import FAULTS, WARNINGS, by_kind
from binseg.data.config import DataConfig
from binseg.errors import printable

if TYPE_CHECKING:
    from binseg.data.check import DatasetCheck
    from binseg.data.check_report import DatasetReport

_SHOWN = 20
_REFRESH = 0.1  # seconds


def data_check(data: DataConfig, workers: int | None = None, out: Path | None = None) -> int:
    """Read a whole data set, list every fault, and show how much of it each class fills.

    Warnings are about what a score means: images of train and val that are nearly the same, a val
    of one film, classes that val does not have.

    Args:
        data: the data set; what is done with its images does not matter here.
        workers: processes that read; null: as many as this one may use cores.
        out: JSON file for all faults, shares and sizes; the screen shows the first faults of each
            kind.

    Returns:
        Exit status: 0 if the data set has no faults (warnings are none), 1 if it has.

    Raises:
        BinsegError: an unknown data set, its label table cannot be read at all, or a process that
            read was killed.
    """
    from contextlib import ExitStack

    from binseg.atomic import atomic_path
    from binseg.data.check import DatasetCheck
    from binseg.errors import BinsegError
    from binseg.machine import cores

    if workers is not None and workers < 1:
        raise BinsegError(f"workers must be at least 1, not {workers}")
    console = Console(soft_wrap=True)
    with ExitStack() as stack:
        # before minutes of reading: a file that cannot be written is refused here
        file = None if out is None else stack.enter_context(atomic_path(out))
        check = DatasetCheck(data, cores() if workers is None else workers)
        _read(check, console)
        report = check.report
        if file is not None:
            text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
            file.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    console.print(_shares(report))
    for split, result in report.splits.items():
        how = f"; {result.arrangement}" if result.arrangement else ""
        console.print(printable(f"{split}: {result.size}{how}"), markup=False, highlight=False)
    _print_findings(by_kind(report.warnings, WARNINGS), WARNINGS, "yellow", console, out)
    _print_findings(by_kind(report.faults, FAULTS), FAULTS, "red", console, out)
    faults, warnings = len(report.faults), len(report.warnings)
    words = f"{faults:,} fault{'s' if faults > 1 else ''}" if faults else "no faults"
    if warnings:
        words += f", {warnings:,} warning{'s' if warnings > 1 else ''}"
    console.print(words)
    return 1 if faults else 0


def _read(check: "DatasetCheck", console: Console) -> None:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    # no refreshing thread: the reading processes are forked, and it might hold a lock just then
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=len(check))
        shown = 0.0
        for name in check:
            late = time.monotonic() - shown > _REFRESH
            progress.update(task, advance=1, description=printable(name), refresh=late)
            shown = time.monotonic() if late else shown


def _print_findings(
    found: dict[str, list[str]],
    titles: Mapping[str, str],
    style: str,
    console: Console,
    out: Path | None,
) -> None:
    """The first lines of each kind, about `_SHOWN` in all."""
    for kind, lines in found.items():
        console.print(f"{titles[kind]}: {len(lines):,}", style="bold", highlight=False)
        shown = max(1, _SHOWN // len(found))
        for line in lines[:shown]:
            console.print(printable(line), style=style, markup=False, highlight=False)
        if len(lines) > shown:
            where = f"all are in {out}" if out else "--out FILE.json lists all"
            console.print(f"… and {len(lines) - shown:,} more; {where}", markup=False)


def _shares(report: "DatasetReport") -> Table:
    """Share of pixels and of images by class and split."""
    name = escape(report.labels.name)
    table = Table(title=f"{name}: share of pixels (and of images with the class)")
    table.add_column("class")
    for split, result in report.splits.items():
        sizes = result.sizes.most_common()
        common = f", {sizes[0][0][1]} × {sizes[0][0][0]}" if sizes else ""
        more = f" and {len(sizes) - 1} more sizes" if len(sizes) > 1 else ""
        table.add_column(f"{split}: {result.samples} images{common}{more}", justify="right")
    for index, name in enumerate((*report.labels.names, "ignored")):
        row = []
        for result in report.splits.values():
            share = result.pixels[index] / max(1, result.pixels.sum())
            text = f"{share:.2%}"
            if index < len(result.present):
                text += f" ({result.present[index] / max(1, result.samples):4.0%})"
            row.append(text)
        table.add_row(escape(name), *row)
    return table
