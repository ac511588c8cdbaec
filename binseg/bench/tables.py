"""What a benchmark found, as tables within 100 columns."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from binseg.summarize.tables import time_table
from binseg.summarize.timing import OperatorTime

if TYPE_CHECKING:
    from rich.table import Table


def tables(result: dict[str, Any]) -> Iterator["Table"]:
    """One table for each thing that was measured."""
    for found in result.get("networks", []):
        yield _network(found, result["subject"]["title"])
    if "size" in result:
        yield _files(result["size"])
    if "memory" in result:
        yield _memory(result["memory"])
    if "startup" in result:
        yield _startup(result["startup"])
    for name, found in result.get("operators", {}).items():
        times = [OperatorTime(**each) for each in found["operators"]]
        title = f"{name}: operators, {found['instruction_set']}, {_threads(found['threads'])}"
        yield time_table(times, found["seconds"], title, rows=12)


def loader_tables(result: dict[str, Any]) -> Iterator["Table"]:
    """Images a second by number of workers; milliseconds of each part of an image."""
    rows = result["loader"]
    speeds = {(row["workers"], row["cache"]): row["pictures_per_second"] for row in rows}
    caches = sorted({cache for _, cache in speeds})
    batch, crop = result["data"]["batch_size"], result["data"]["crop"]
    table = _table(
        f"training loader, batches of {batch}, crops of {crop[0]} × {crop[1]}, images a second",
        "workers",
        *("from the cache" if cache else "from files" for cache in caches),
    )
    for workers in dict.fromkeys(row["workers"] for row in rows):
        table.add_row(str(workers), *(f"{speeds[workers, cache]:.0f}" for cache in caches))
    yield table
    for kind in ("training", "scoring"):
        parts = result[kind]
        title = f"{kind}, parts of an image, one thread" + ", no network" * (kind == "scoring")
        table = _table(title, "part", "ms", "share")
        total = sum(parts.values())
        for name, seconds in parts.items():
            table.add_row(name, f"{seconds * 1e3:.2f}", f"{seconds / total:.0%}")
        table.add_row("all", f"{total * 1e3:.2f}", f"{1 / total:.0f} a second")
        yield table


def _network(found: dict[str, Any], title: str) -> "Table":
    (height, width), seen = found["image"], found["network_sees"]
    inside = "" if seen == found["image"] else f" (the network sees {seen[0]} × {seen[1]})"
    table = _table(
        f"{title}\nfrom an image of {height} × {width}{inside} to its class map, "
        f"{found['device']}, {_threads(found['threads'])}",
        *("candidate", "ms", "× best fp32", "× best int8"),
    )
    ratios = found["times_faster"]
    for name, timing in found["candidates"].items():
        table.add_row(
            name,
            f"{timing['seconds'] * 1e3:.2f}",
            *(
                f"{ratios[kind][name]:.2f}" if name in ratios[kind] else ""
                for kind in ("fp32", "int8")
            ),
        )
    return table


def _files(found: dict[str, Any]) -> "Table":
    table = _table("model file", "candidate", "MB", "times smaller than fp32")
    for name, figures in found.items():
        table.add_row(name, f"{figures['bytes'] / 1e6:.3f}", f"{figures['times_smaller']:.1f}")
    return table


def _memory(found: dict[str, Any]) -> "Table":
    table = _table("memory of a process, MB", "model file", "opened", "peak in an image")
    for name, figures in found.items():
        table.add_row(name, *(f"{figures[key] / 1e6:.1f}" for key in ("before", "peak")))
    return table


def _startup(found: dict[str, Any]) -> "Table":
    table = _table("a process from its start to the first class map", "model file", "ms")
    for name, figures in found.items():
        table.add_row(name, f"{figures['seconds'] * 1e3:.0f}")
    return table


def _table(title: str, first: str, *columns: str) -> "Table":
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.min_width = max(map(len, title.splitlines()))
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _threads(number: int) -> str:
    return "one thread" if number == 1 else f"{number} threads"
