"""Times the CUDA kernels beside cuDNN: `python -m binseg.kernels.cuda_bench --out DIR`.

Every contender is captured in a CUDA graph of several calls; in each round all of them run in turn,
in one process. The figure is the least over rounds of the median over replays, for one call.
Prints tables and writes DIR/cuda_bench.json.
"""

import argparse
import json
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from binseg.kernels import layout
from binseg.kernels.cuda import Kernels, backend, engines
from binseg.kernels.shape import ConvShape

ROUNDS = 7
REPLAYS = 15
CALLS = 10

MMA_MACS = 64 * 16 * 8 * 256
WGMMA_MACS = 16 * 64 * 256 * 256
"""Products of one round of one block of `mma_rate` and `wgmma_rate`."""


@dataclass(frozen=True)
class Size:
    """A 3×3 convolution of `channels` to as many, on a map of height × width."""

    channels: int
    height: int
    width: int
    dilation: int = 1

    def __str__(self) -> str:
        dilation = f" d{self.dilation}" if self.dilation > 1 else ""
        return f"C{self.channels} {self.height}×{self.width}{dilation}"


SIZES = (Size(64, 120, 160), Size(128, 60, 80), Size(256, 30, 40), Size(512, 30, 40, 2))
BATCHES = (1, 32)
BASES = 4


def capture(call: Callable[[], Any], calls: int = CALLS) -> torch.cuda.CUDAGraph:
    """A graph of `calls` calls."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    return graph


def measure(contenders: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Microseconds for one call of each."""
    graphs = {name: capture(call) for name, call in contenders.items()}
    best = dict.fromkeys(graphs, float("inf"))
    for graph in graphs.values():
        graph.replay()
    for _ in range(ROUNDS):
        for name, graph in graphs.items():
            events = []
            for _ in range(REPLAYS):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                graph.replay()
                end.record()
                events.append((begin, end))
            torch.cuda.synchronize()
            median = statistics.median(begin.elapsed_time(end) for begin, end in events)
            best[name] = min(best[name], median * 1000 / CALLS)
    return best


def convolutions(kernels: Kernels, size: Size, batch: int) -> dict[str, Callable[[], Any]]:
    """Ours with three kinds of results and a group block, and cuDNN."""
    c, k = size.channels, BASES
    area = (batch, size.height, size.width)
    shape = ConvShape(c, c, (3, 3), 1, (size.dilation,), 0)
    group = replace(shape, dilations=(size.dilation,) * k)
    weight = layout.pack_weight(torch.randn(c, c, 3, 3)).cuda()
    stacked = layout.pack_weight(torch.randn(k * c, c, 3, 3), k).cuda()
    bits = kernels.pack_sign(torch.randn(*area, 1, c, device="cuda"))
    group_bits = bits.expand(-1, -1, -1, k, -1).contiguous()
    low = torch.zeros(c, dtype=torch.int32, device="cuda")
    span = torch.full_like(low, 2**31 - 1)
    curve, group_curve = (torch.randn(3, n, device="cuda") for n in (c, k * c))
    residual = torch.randn(*area, 1, c, device="cuda")
    lambdas = torch.rand(k, device="cuda")
    x = torch.randn(batch, c, *area[1:], device="cuda", dtype=torch.float16)
    x = x.to(memory_format=torch.channels_last)
    w = torch.randn(c, c, 3, 3, device="cuda", dtype=torch.float16)
    w = w.to(memory_format=torch.channels_last)
    d = size.dilation
    return {
        "cuDNN fp16": lambda: F.conv2d(x, w, None, 1, d, d),
        "sums": lambda: kernels.conv_sum(bits, weight, shape, torch.int16),
        "bits": lambda: kernels.conv_bits(bits, weight, shape, low, span),
        "real": lambda: kernels.conv_real(bits, weight, shape, curve, False, residual, True),
        f"merge K={k}": lambda: kernels.conv_merge(
            group_bits,
            stacked,
            group,
            group_curve,
            False,
            residual,
            lambdas,
            lambdas,
            False,
            True,
        ),
    }


def by_engine(kernels: Kernels, size: Size, batch: int) -> dict[str, float]:
    """Microseconds of `conv_sum` with each engine, and each height of tile."""
    plan = kernels.plan
    plans = {engine: replace(plan, engine=engine) for engine in engines(plan.capability)}
    if "tensor" in plans:
        tensor = plans.pop("tensor")
        plans |= {f"tensor {rows}": replace(tensor, rows=rows) for rows in (128, 64, 32)}
        plans.pop("cores")  # far behind, and a matter of correctness only
    return measure(
        {
            name: convolutions(Kernels(torch.ops.binseg_cuda, other), size, batch)["sums"]
            for name, other in plans.items()
        }
    )


def rates(kernels: Kernels) -> dict[str, float]:
    """Peta-operations a second of the bare instructions; a product and its sum are two."""
    found = {}
    makers: list[tuple[str, Any, int, int, int]] = [
        ("mma", torch.ops.binseg_cuda.mma_rate, MMA_MACS, 4, 2000)
    ]
    if torch.cuda.get_device_capability()[0] == 9:
        makers.append(("wgmma", torch.ops.binseg_cuda.wgmma_rate, WGMMA_MACS, 2, 500))
    for name, operator, macs, per_multiprocessor, rounds in makers:
        blocks = kernels.plan.multiprocessors * per_multiprocessor
        out = torch.empty(blocks * 128, dtype=torch.int32, device="cuda")

        def call(run: Any = operator, n: int = blocks, r: int = rounds, o: Any = out) -> None:
            run(n, r, o)

        microseconds = measure({name: call})[name]
        found[name] = 2 * macs * blocks * rounds / microseconds / 1e9
    return found


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else "unknown"


def describe() -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "driver": _first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "clocks": _first_line(
            "nvidia-smi", "--query-gpu=clocks.sm,clocks.mem", "--format=csv,noheader"
        ),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "commit": _first_line("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"),
    }


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    print(f"\n{title}")
    for row in (header, *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m binseg.kernels.cuda_bench")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for cuda_bench.json")
    out = parser.parse_args(arguments).out
    if not torch.cuda.is_available():
        parser.exit(1, "no GPU: this benchmark needs one\n")
    torch.backends.cudnn.benchmark = True
    kernels = backend(torch.device("cuda", torch.cuda.current_device()))
    result: dict[str, Any] = {"machine": describe(), "plan": str(kernels.plan), "times": []}
    out.mkdir(parents=True, exist_ok=True)
    path = out / "cuda_bench.json"

    result["rates"] = rates(kernels)
    print_table(
        "bare 1-bit instructions, peta-operations a second",
        list(result["rates"]),
        [[f"{rate:.2f}" for rate in result["rates"].values()]],
    )
    for batch in BATCHES:
        table, tiles = [], []
        header: list[str] = []
        for size in SIZES:
            times = measure(convolutions(kernels, size, batch))
            macs = batch * size.height * size.width * size.channels**2 * 9
            each = by_engine(kernels, size, batch)
            result["times"].append(
                {
                    "size": str(size),
                    "batch": batch,
                    "macs": macs,
                    "microseconds": times,
                    "microseconds_by_engine": each,
                }
            )
            path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
            header = ["", *times, "cuDNN / sums", "Pop/s"]
            speed = [
                f"{times['cuDNN fp16'] / times['sums']:.2f}",
                f"{2e-9 * macs / times['sums']:.2f}",
            ]
            table.append([str(size), *(f"{t:.2f}" for t in times.values()), *speed])
            tiles.append([str(size), *(f"{t:.2f}" for t in each.values())])
            torch.cuda.empty_cache()
        print_table(f"batch {batch}, microseconds", header, table)
        print_table("sums by engine and height of tile, microseconds", ["", *each], tiles)
    result["machine"]["clocks after"] = describe()["clocks"]
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{json.dumps(result['machine'], ensure_ascii=False)}\nwritten to {path}")


if __name__ == "__main__":
    main()
