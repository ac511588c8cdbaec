"""What a benchmark found, as tables within 100 columns."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from binseg.summarize.tables import time_table
from binseg.summarize.timing import OperatorTime

if TYPE_CHECKING:
    from rich.table import Table


def tables(result: dict[str, Any]) -> Iterator["Table"]:
    """One table for each thing that was measured."""
    for part, title in (("layers", "3×3 convolution"), ("block", "group block, 8 convolutions")):
        rows = result.get(part, [])
        for number in dict.fromkeys(row["threads"] for row in rows):
            chosen = [row for row in rows if row["threads"] == number]
            yield _layers(chosen, f"{title}, {_threads(number)}, milliseconds")
            if part == "layers":
                yield _ratios(chosen, number)
    for found in result.get("networks", []):
        yield _network(found, result["network"]["title"])
    if "size" in result:
        yield _files(result["size"])
    if "memory" in result:
        yield _memory(result["memory"])
    if "startup" in result:
        yield _startup(result["startup"])
    for side, found in result.get("profile", {}).items():
        times = [OperatorTime(**each) for each in found["operators"]]
        title = f"{side}: operators, {_threads(found['threads'])}"
        yield time_table(times, found["seconds"], title, rows=12)


def loader_tables(result: dict[str, Any]) -> Iterator["Table"]:
    """Pictures a second by number of workers; milliseconds of each part of a picture."""
    rows = result["loader"]
    speeds = {(row["workers"], row["cache"]): row["pictures_per_second"] for row in rows}
    caches = sorted({cache for _, cache in speeds})
    batch, crop = result["data"]["batch_size"], result["data"]["crop"]
    table = _table(
        f"training loader, batches of {batch}, crops of {crop[0]} × {crop[1]}, pictures a second",
        "workers",
        *("from the cache" if cache else "from files" for cache in caches),
    )
    for workers in dict.fromkeys(row["workers"] for row in rows):
        table.add_row(str(workers), *(f"{speeds[workers, cache]:.0f}" for cache in caches))
    yield table
    for kind in ("training", "scoring"):
        parts = result[kind]
        title = f"{kind}, parts of a picture, one thread" + ", no network" * (kind == "scoring")
        table = _table(title, "part", "ms", "share")
        total = sum(parts.values())
        for name, seconds in parts.items():
            table.add_row(name, f"{seconds * 1e3:.2f}", f"{seconds / total:.0%}")
        table.add_row("all", f"{total * 1e3:.2f}", f"{1 / total:.0f} a second")
        yield table


def _layers(rows: list[dict[str, Any]], title: str) -> "Table":
    """A column for each shape, and GMAC/s."""
    table = _table(title, "side", *[row["shape"]["name"] for row in rows], "GMAC/s")
    for side in rows[0]["sides"]:
        speeds = [row["sides"][side]["gmacs_per_second"] for row in rows]
        cells = [f"{row['sides'][side]['seconds'] * 1e3:.3f}" for row in rows]
        table.add_row(side, *cells, f"{min(speeds):.0f} … {max(speeds):.0f}")
    return table


def _ratios(rows: list[dict[str, Any]], number: int) -> "Table":
    """Times faster than the best fp32, and than the best int8."""
    table = _table(
        f"times faster than the best fp32 (and int8), {_threads(number)}",
        "side",
        *[row["shape"]["name"] for row in rows],
    )
    for side in rows[0]["speedup_over_fp32"]:
        cells = []
        for row in rows:
            eight = row["speedup_over_int8"].get(side)
            text = f"{row['speedup_over_fp32'][side]:.1f}"
            cells.append(f"{text} ({eight:.1f})" if eight else text)
        table.add_row(side, *cells)
    return table


def _network(found: dict[str, Any], title: str) -> "Table":
    height, width = found["picture"]
    table = _table(
        f"{title}\npicture {height} × {width} in, class map out, {found['device']}, "
        f"{_threads(found['threads'])}",
        *("side", "ms", "× torch fp32", "× int8", "upsampling + argmax"),
    )
    for side, timing in found["sides"].items():
        table.add_row(
            side,
            f"{timing['seconds'] * 1e3:.2f}",
            *(
                f"{found[name][side]:.2f}" if side in found[name] else ""
                for name in ("speedup_over_fp32", "speedup_over_int8")
            ),
            timing["finish"],
        )
    return table


def _files(found: dict[str, Any]) -> "Table":
    table = _table("file", "side", "MB", "times smaller than fp32")
    for side, figures in found.items():
        table.add_row(side, f"{figures['bytes'] / 1e6:.3f}", f"{figures['times_smaller']:.1f}")
    return table


def _memory(found: dict[str, Any]) -> "Table":
    table = _table(
        "memory of one forward, in MB", "side", "loaded", "peak", "growth", "growth / fp32 twin's"
    )
    for side, figures in found.items():
        table.add_row(
            side,
            *(f"{figures[name] / 1e6:.1f}" for name in ("before", "peak", "growth")),
            f"{figures['share_of_twin']:.2f}",
        )
    return table


def _startup(found: dict[str, Any]) -> "Table":
    table = _table(f"start-up of a process, {found['side']}", "until", "s", "s beyond torch")
    for name, figures in found["processes"].items():
        table.add_row(name, f"{figures['seconds']:.2f}", f"{figures['beyond_torch']:.2f}")
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
