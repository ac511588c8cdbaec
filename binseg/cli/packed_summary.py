"""`binseg summary` of a packed file where torch is not installed."""

from pathlib import Path


def packed_summary(
    network: str, size: tuple[int, int] = (480, 640), json: Path | None = None
) -> int:
    """Weights, bytes and products of each operator of a packed network.

    Networks that are not packed, and times, need torch: pip install 'binseg[train]'.

    Args:
        network: packed model file, hf:user/name or shipped name.
        size: height and width at which the network sees the image, in pixels.
        json: write the figures here as JSON, too.
    """
    from json import dumps

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from binseg.atomic import atomic_path
    from binseg.inference.program_summary import OperatorFigures, summarize_program

    found = summarize_program(network, size)
    table = Table(
        title=f"{network}, image {size[0]} × {size[1]}",
        caption="MACs: products added up, for one image",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("layer", overflow="fold", max_width=28)
    table.add_column("operator")
    for column in ("output", "1-bit params", "other params", "bytes", "1-bit MACs", "other MACs"):
        table.add_column(column.replace(" ", "\n"), justify="right", no_wrap=True)

    def add_row(each: OperatorFigures, output: str) -> None:
        counts = (
            each.binary_parameters,
            each.real_parameters,
            each.packed_bytes,
            each.binary_macs,
            each.real_macs,
        )
        table.add_row(each.name, each.kind, output, *(f"{count:,}" for count in counts))

    for each in found.operators:
        add_row(each, "×".join(map(str, each.output)))
    table.add_section()
    add_row(found.total, "")
    Console(width=110).print(table)
    if json is not None:
        with atomic_path(json) as temporary:
            temporary.write_text(dumps({"network": network, **found.to_dict()}, indent=1) + "\n")
    return 0
