"""`binseg summary`: the layers of a network, and what of them is 1 bit."""

from pathlib import Path
from typing import Any, Literal

from binseg.errors import BinsegError
from binseg.training.config import ModelConfig


def summary_command(
    network: str,
    model: ModelConfig = ModelConfig(),  # noqa: B008 - the parser only reads its fields
    classes: int = 21,
    size: tuple[int, int] = (480, 640),
    json: Path | None = None,
    time: bool = False,
    other_layers: Literal["fp32", "bf16", "int8"] = "int8",
    rates: Path | None = None,
) -> int:
    """Parameters, bytes and operations of each layer, and what share of them is not 1 bit.

    Args:
        network: model file, run folder, hf:user/name, shipped name or architecture.
        model: options of a network given by name; --model.name is not needed.
        classes: number of classes of a network given by name.
        size: height and width of the image, in pixels.
        json: write the figures here as JSON, too.
        time: run the packed network, on one thread of this machine, and show what its time goes
            into. A network that is not packed is packed first.
        other_layers: arithmetic of the layers that are not binary, for --time on a network that is
            not packed.
        rates: bench.json of `binseg bench --parts operators`: estimate from its rates what each
            layer of a trained network will cost on one thread, without running it.
    """
    from dataclasses import asdict
    from json import dumps

    from rich.console import Console

    from binseg.atomic import atomic_path
    from binseg.cli.network import open_network
    from binseg.summarize import summary as summarize
    from binseg.summarize.cost import Rates, estimate
    from binseg.summarize.tables import WIDTH, estimate_table, summary_table

    subject = open_network(network, model, classes)
    found = summarize(subject.model, size)
    result: dict[str, Any] = {"network": subject.title, **found.to_dict()}
    console = Console(width=WIDTH)
    console.print(summary_table(found, subject.title))
    if rates is not None:
        known = Rates.from_bench(rates)
        seconds = estimate(found.layers, known)
        names = [layer.name for layer in found.layers]
        result["estimate"] = {
            "rates": asdict(known),
            "seconds": dict(zip(names, seconds, strict=True)),
        }
        console.print(estimate_table(found.layers, seconds, known))
    if time:
        result["time"] = _timed(subject, size, other_layers, console)
    if json is not None:
        with atomic_path(json) as temporary:
            temporary.write_text(dumps(result, indent=1) + "\n")
    return 0


def _timed(subject: Any, size: tuple[int, int], other_layers: Any, console: Any) -> dict[str, Any]:
    from dataclasses import asdict

    import torch

    from binseg.compiler.pack import pack
    from binseg.compiler.packed import PackedSegmenter
    from binseg.summarize import time_operators
    from binseg.summarize.tables import time_table
    from binseg.summarize.timing import real_time_share

    image = torch.randn((1, 3, *size), generator=torch.Generator().manual_seed(0))
    if isinstance(subject.model, PackedSegmenter):
        packed = subject.model
    else:
        try:
            packed = pack(
                subject.model,
                other_layers=other_layers,
                calibration=[image],
                preprocessing=subject.preprocessing,
            )
        except BinsegError as error:
            raise BinsegError(f"{error}; --time is for networks that can be packed") from error
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times, whole = time_operators(packed, image)
    finally:
        torch.set_num_threads(before)
    title = f"time on one thread, packed, non-binary layers in {packed.other_layers}"
    console.print(time_table(times, whole, title))
    return {
        "other_layers": packed.other_layers,
        "threads": 1,
        "seconds": whole,
        "real_share": real_time_share(times),
        "operators": [asdict(each) for each in times],
    }
