"""`binseg data check`: read a whole data set and list every fault."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from binseg.data.check import DatasetCheck, DatasetReport
from binseg.data.config import DataConfig


def data_check(data: DataConfig) -> int:
    """Read a whole data set, list every fault, and show how much of it each class fills.

    Args:
        data: the data set; only name, root and the scenes_… keys matter here.

    Returns:
        Exit status: 0 if the data set is clean, 1 if it has faults.

    Raises:
        BinsegError: an unknown data set, or its label table cannot be read at all.
    """
    console = Console(soft_wrap=True)
    check = DatasetCheck(data)
    columns = (
        TextColumn("reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(check))
        for name in check:
            progress.update(task, advance=1, description=name)
    report = check.report
    console.print(_shares(report))
    for fault in report.faults:
        console.print(fault, style="red", markup=False, highlight=False)
    count = len(report.faults)
    console.print("no faults" if not count else f"{count} fault{'s' if count > 1 else ''}")
    return 1 if count else 0


def _shares(report: DatasetReport) -> Table:
    """Share of pixels and of pictures by class and split."""
    table = Table(title=f"{report.labels.name}: share of pixels (and of pictures with the class)")
    table.add_column("class")
    for split, result in report.splits.items():
        sizes = sorted(result.sizes.items(), key=lambda item: -item[1])
        common = f", {sizes[0][0][1]} × {sizes[0][0][0]}" if sizes else ""
        more = f" and {len(sizes) - 1} more sizes" if len(sizes) > 1 else ""
        table.add_column(f"{split}: {result.samples} pictures{common}{more}", justify="right")
    for index, name in enumerate((*report.labels.names, "ignored")):
        row = []
        for result in report.splits.values():
            share = result.pixels[index] / max(1, result.pixels.sum())
            text = f"{share:.2%}"
            if index < len(result.present):
                text += f" ({result.present[index] / max(1, result.samples):4.0%})"
            row.append(text)
        table.add_row(name, *row)
    return table
