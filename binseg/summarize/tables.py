"""A summary as a table for people, within 100 columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from binseg.summarize.cost import Rates
from binseg.summarize.layers import Layer, Summary
from binseg.summarize.timing import OperatorTime, real_time_share

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100
"""Columns that a table takes at most."""


def summary_table(found: Summary, title: str) -> "Table":
    """A row for each layer, the sums, and what share of them is not binary."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    height, width = found.size
    table = Table(
        title=f"{escape(title)}, image {height} × {width}",
        caption="MACs: products added up, for one image; packed: bytes in a packed file",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_footer=True,
    )
    total = found.total
    share = found.real_share
    columns = (
        ("layer", "total\nnot 1-bit", "left"),
        ("kind", "", "left"),
        ("output", "", "right"),
        ("1-bit\nparams", count(total.binary_parameters), "right"),
        ("other\nparams", f"{count(total.real_parameters)}\n{share['parameters']:.2%}", "right"),
        ("float\nbytes", count(total.float_bytes), "right"),
        ("packed\nbytes", f"{count(total.packed_bytes)}\n{share['packed_bytes']:.2%}", "right"),
        ("1-bit\nMACs", count(total.binary_macs), "right"),
        ("other\nMACs", f"{count(total.real_macs)}\n{share['macs']:.2%}", "right"),
    )
    for header, footer, justify in columns:
        table.add_column(
            header,
            footer,
            justify="left" if justify == "left" else "right",
            overflow="fold",
            no_wrap=justify == "right",
            max_width={"layer": 24, "kind": 16}.get(header),
        )
    above = ""
    for layer in found.layers:
        inside = above and layer.name.startswith(f"{above}.")
        table.add_row(layer.name[len(above) :] if inside else layer.name, *_figures(layer))
        above = above if inside else layer.name
    return table


def _figures(layer: Layer) -> list[str]:
    return [
        layer.kind,
        "×".join(map(str, layer.output[1:])),
        count(layer.binary_parameters),
        count(layer.real_parameters),
        count(layer.float_bytes),
        count(layer.packed_bytes),
        count(layer.binary_macs),
        count(layer.real_macs),
    ]


def estimate_table(layers: Sequence[Layer], seconds: Sequence[float], rates: Rates) -> "Table":
    """What the layers are expected to cost, the dearest first.

    Args:
        layers: of a summary.
        seconds: of each, from `estimate`.
        rates: that they were estimated with.
    """
    from rich import box
    from rich.table import Table

    whole = sum(seconds)
    binary = sum(each for layer, each in zip(layers, seconds, strict=True) if layer.binary_macs)
    table = Table(
        title=f"estimated time on one thread, {rates.backend}",
        caption=(
            f"{whole * 1e3:.2f} ms, {binary * 1e3:.2f} of them 1-bit layers; at "
            f"{rates.bits / 1e9:.0f} 1-bit and {rates.int8 / 1e9:.0f} 8-bit GMAC/s and "
            f"{rates.map_bytes / 1e9:.0f} GB/s for maps; without the image's way in and upsampling"
        ),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("layer", overflow="fold")
    for column in ("output", "ms", "share"):
        table.add_column(column, justify="right")
    for layer, each in sorted(zip(layers, seconds, strict=True), key=lambda pair: -pair[1]):
        if each:
            size = "×".join(map(str, layer.output[1:]))
            table.add_row(layer.name, size, f"{each * 1e3:.3f}", f"{each / whole:.1%}")
    return table


def time_table(times: list[OperatorTime], whole: float, title: str, *, rows: int = 16) -> "Table":
    """The operators that take longest, and what share of the time is not binary.

    Args:
        times, whole: from `time_operators`.
        rows: how many operators have a row of their own.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    total = sum(each.seconds for each in times)
    rest = times[rows:]
    table = Table(
        title=escape(title),
        min_width=len(title),
        caption=f"not 1-bit: {real_time_share(times):.1%} of {total * 1e3:.2f} ms in operators;\n"
        f"a whole pass takes {whole * 1e3:.2f} ms",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in ("layer", "operator", "1-bit", "ms", "share"):
        justify = "right" if column in ("ms", "share") else "left"
        table.add_column(column, justify="right" if justify == "right" else "left", overflow="fold")
    shown = [(each.layer or "(network)", each.operator, each.binary, each.seconds)
             for each in times[:rows]]  # fmt: skip
    for binary in (True, False):
        more = [each.seconds for each in rest if each.binary == binary]
        if more:
            shown.append((f"{len(more)} more", "", binary, sum(more)))
    for layer, operator, binary, seconds in shown:
        table.add_row(
            layer,
            operator.removeprefix("binseg."),
            "yes" if binary else "no",
            f"{seconds * 1e3:.3f}",
            f"{seconds / total:.1%}" if total else "",
        )
    return table


def count(value: float) -> str:
    """A number with three digits or so and k, M, G for thousands; empty for 0."""
    if not value:
        return ""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            scaled = value / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f} {letter}"
    return f"{value:.0f}"
