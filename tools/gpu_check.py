"""Builds the CUDA kernels on a GPU machine, holds them against the reference, times them.

    PYTHONPATH=. python tools/gpu_check.py --out build/gpu-check

Needs torch with CUDA, nvcc, g++, ninja, numpy and safetensors; binseg need not be installed, and
there is no data. Writes DIR/gpu_check.json after every part, so that a run that is cut short leaves
what it found; the parts are in the order of their worth. Exit status 1 if anything differs or
fails.

Speed: every contender is captured in a CUDA graph of several calls; in each round all of them run
in turn. The figure is the minimum over rounds of the median over replays, for one call. Networks
are the shipped ones, on noise.

`--rehearse` runs the same code on the CPU with the kernels replaced by numpy, for trying it out.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "cuda")]

from cuda_emulation import cases  # noqa: E402
from cuda_emulation.programs import check_program  # noqa: E402
from random_programs import random_image, random_program  # noqa: E402

from binseg.program.cuda import build  # noqa: E402
from binseg.program.cuda.devices import TorchExecutor, engines, plan_for  # noqa: E402
from binseg.program.cuda.operator_tensors import Plan  # noqa: E402
from binseg.program.cuda.weights import ENGINES, Engine  # noqa: E402
from binseg.program.file import read_program  # noqa: E402
from binseg.program.interpreter import Interpreter  # noqa: E402

ROUNDS, REPLAYS, CALLS = 5, 11, 10
BASES = 4
BATCHES = (1, 32)
SEEDS = range(24)
MODELS = {"camvid-small": (270, 360), "camvid-base": (360, 480)}
"""Shipped networks, and the image sizes that they see."""


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
LARGE = [
    cases.Case("C64", (1, 120, 160), (64, 64), padding=0),
    cases.Case("C128", (2, 60, 80), (128, 128), padding=1),
    cases.Case("C256", (1, 30, 40), (256, 256), dilations=(1, 8), padding=0, shared=True),
    cases.Case("C512", (1, 30, 40), (512, 512), dilations=(2,), padding=-1),
    cases.Case("stride", (2, 61, 79), (96, 160), stride=2, dilations=(1, 3), padding=0),
]


class Check:
    """Runs parts one after the other and keeps what they find.

    Attributes:
        device: of torch.
        failed: names of the parts that did.
    """

    def __init__(self, out: Path, device: str) -> None:
        self.device = device
        self.failed: list[str] = []
        self._path = out / "gpu_check.json"
        self._result: dict[str, Any] = {"machine": describe(device), "parts": {}}
        out.mkdir(parents=True, exist_ok=True)
        self._began = time.monotonic()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[dict[str, Any]]:
        """A part: what it puts into the dictionary is written; an error in it ends it alone."""
        found: dict[str, Any] = {}
        began = time.monotonic()
        try:
            yield found
            text = "ok"
        except Exception as error:  # whatever it is, the parts after it are still worth running
            self.failed.append(name)
            text = f"FAILED: {type(error).__name__}: {str(error).strip()[:2000]}"
            found["error"] = text
        found["seconds"] = round(time.monotonic() - began, 2)
        self._result["parts"][name] = found
        self._result["seconds"] = round(time.monotonic() - self._began, 1)
        self._result["failed"] = self.failed
        self._path.write_text(json.dumps(self._result, indent=1, ensure_ascii=False) + "\n")
        print(f"{name}: {text} ({found['seconds']:.1f} s)", flush=True)


def describe(device: str) -> dict[str, str]:
    """What the figures were measured on."""
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": "CPU, a rehearsal",
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "commit": _first_line("git", "-C", str(ROOT), "rev-parse", "HEAD"),
    }
    if device == "cuda":
        clocks = "--query-gpu=driver_version,clocks.sm,clocks.mem,clocks.max.sm"
        about |= {
            "device": torch.cuda.get_device_name(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "driver and clocks": _first_line("nvidia-smi", clocks, "--format=csv,noheader"),
            "cudnn": str(torch.backends.cudnn.version()),
        }
    return about


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else "unknown"


# Exactness


def plans(had: Sequence[Engine]) -> Iterator[tuple[str, Plan]]:
    """Every engine and every height of tile, the default first."""
    yield f"{had[0]}", (ENGINES.index(had[0]), 0, 0)
    for engine in had[1:]:
        yield engine, (ENGINES.index(engine), 0, 0)
    if "tensor" in had:
        tensor = ENGINES.index("tensor")
        for rows in (128, 64, 32):
            yield f"tensor, {rows} rows", (tensor, rows, 0)
        yield "tensor, little shared memory", (tensor, 64, 36_000)


def check_convolutions(device: str, plan: Plan, large: bool) -> int:
    """All forms of convolutions over bits; returns how many calls were compared."""
    count = 0
    more = LARGE if large else []
    for makers, chosen in (
        ((cases.bits_calls, cases.real_calls), [*cases.CONVS, *more]),
        ((cases.merge_calls,), [*cases.MERGES, *more]),
    ):
        for make in makers:
            for case in chosen:
                for call in make(case, plan):
                    cases.check(torch.ops.binseg, device, call)
                    count += 1
    return count


def check_graph(executor: TorchExecutor, size: tuple[int, int]) -> None:
    """A network captured in a CUDA graph gives on other images what it gives without."""
    first, second = images_of(2, size, executor.device).split(1)
    own = first.clone()
    graph, scores = capture(lambda: executor.batch_scores(own), 1)
    for image in (second, first):
        own.copy_(image)
        graph.replay()
        torch.cuda.synchronize()
        if not torch.equal(scores(), executor.batch_scores(image)):
            raise AssertionError("a replayed graph gives other scores")


def images_of(count: int, size: tuple[int, int], device: torch.device | str) -> Tensor:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (count, *size, 3), np.uint8)
    return torch.from_numpy(noise).to(device)


# Speed


def capture(
    call: Callable[[], Any], calls: int
) -> tuple["torch.cuda.CUDAGraph", Callable[[], Any]]:
    """A graph of `calls` calls, and what the last one of them returned."""
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
            result = call()
    return graph, lambda: result


def measure(contenders: dict[str, Callable[[], Any]], calls: int = CALLS) -> dict[str, float]:
    """Microseconds for one call of each, in a graph."""
    graphs = {name: capture(call, calls)[0] for name, call in contenders.items()}
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
            best[name] = min(best[name], median * 1000 / calls)
    return {name: round(value, 3) for name, value in best.items()}


def convolutions(size: Size, batch: int, plan: Plan) -> dict[str, Callable[[], Any]]:
    """Ours with three kinds of results, and cuDNN."""
    c, dilation = size.channels, size.dilation
    map_ = (batch, size.height, size.width)
    single = cases.Case("", map_, (c, c), dilations=(dilation,), padding=0)
    group = cases.Case("", map_, (c, c), dilations=(dilation,) * BASES, padding=0)
    rng = np.random.default_rng(0)

    def on_gpu(*tensors: Tensor) -> list[Tensor]:
        return [each.cuda() for each in tensors]

    given = on_gpu(*single.inputs(rng, plan))
    several = on_gpu(*group.inputs(rng, plan))
    low = torch.zeros(c, dtype=torch.int32, device="cuda")
    span = torch.full_like(low, 2**31 - 1)
    curve, curves = (torch.randn(3, n, device="cuda") for n in (c, BASES * c))
    post = torch.randn(4, c, device="cuda")
    residual = torch.randn(*map_, c, device="cuda")
    lambdas = torch.rand(BASES, device="cuda")
    x, w = (
        torch.randn(*shape, device="cuda", dtype=torch.float16).to(
            memory_format=torch.channels_last
        )
        for shape in ((batch, c, *map_[1:]), (c, c, 3, 3))
    )
    ops, one, all_ = torch.ops.binseg, single.shape(plan), group.shape(plan)
    return {
        "cuDNN fp16": lambda: F.conv2d(x, w, None, 1, dilation, dilation),
        "bits": lambda: ops.conv_bits(*given, low, span, *one),
        "real": lambda: ops.conv_real(*given, curve, False, residual, post, True, True, *one),
        f"merge K={BASES}": lambda: ops.conv_merge(
            *several, curves, False, residual, None, lambdas, lambdas, None, False, True, *all_
        ),
    }


def time_convolutions(had: Sequence[Engine], default: Plan) -> Iterator[dict[str, Any]]:
    for batch in BATCHES:
        for size in SIZES:
            macs = batch * size.height * size.width * size.channels**2 * 9
            times = measure(convolutions(size, batch, default))
            each = {}
            for name, plan in plans(had):
                if "shared" not in name and "cores" not in name:
                    each[name] = measure({"bits": convolutions(size, batch, plan)["bits"]})["bits"]
            yield {
                "size": str(size),
                "batch": batch,
                "microseconds": times,
                "times faster than cuDNN fp16": round(times["cuDNN fp16"] / times["bits"], 2),
                "peta-operations a second": round(2e-9 * macs / times["bits"], 3),
                "microseconds of bits by plan": each,
            }
            torch.cuda.empty_cache()


def time_network(executor: TorchExecutor, size: tuple[int, int]) -> dict[str, Any]:
    """Images a second, from bytes on the GPU to class ids on the GPU."""
    found: dict[str, Any] = {}
    for batch in BATCHES:
        images = images_of(batch, size, "cuda")

        def run(images: Tensor = images) -> Tensor:
            scores = executor.batch_scores(images)
            return torch.ops.binseg.upsample_argmax(scores, *size)

        graph = measure({"graph": run}, calls=1)["graph"]
        times = []
        for _ in range(ROUNDS + 3):
            torch.cuda.synchronize()
            began = time.perf_counter()
            run()
            torch.cuda.synchronize()
            times.append((time.perf_counter() - began) * 1e6)
        eager = statistics.median(times[3:])
        found[f"batch {batch}"] = {
            "microseconds in a graph": graph,
            "microseconds call by call": round(eager, 1),
            "images a second in a graph": round(batch * 1e6 / graph, 1),
        }
    image = images_of(1, size, "cpu")[0].numpy()
    executor.operator_seconds(image)
    seconds = executor.operator_seconds(image)
    kinds = [operator.kind for operator in executor.network.program.operators]
    slowest = sorted(zip(seconds, range(len(kinds)), kinds, strict=True), reverse=True)[:8]
    found["slowest operators, microseconds call by call"] = [
        [f"{index} {kind}", round(each * 1e6, 1)] for each, index, kind in slowest
    ]
    return found


def run(out: Path, *, rehearse: bool) -> int:
    """All parts; returns the exit status."""
    device = "cpu" if rehearse else "cuda"
    check = Check(out, device)
    had: Sequence[Engine] = ("tensor",)
    default: Plan = (ENGINES.index("tensor"), 0, 0)
    if not rehearse:
        torch.backends.cudnn.benchmark = True
        with check.part("build") as found:
            found["library"] = str(build.load())
            default = plan_for(torch.device("cuda", torch.cuda.current_device()))
            had = engines(torch.cuda.get_device_capability())
            found["engines"] = list(had)
        if check.failed:
            return 1  # nothing else can run
    with check.part("operators but convolutions of bits"):
        for call in cases.all_other_calls():
            cases.check(torch.ops.binseg, device, call)
    for number, (name, plan) in enumerate(plans(had)):
        with check.part(f"convolutions of bits, {name}") as found:
            found["calls"] = check_convolutions(device, plan, large=number == 0 and not rehearse)
    with check.part("random programs"):
        for seed in SEEDS if not rehearse else SEEDS[:3]:
            program, size = random_program(seed)
            images = [random_image(seed, *size), random_image(seed + 1, *size)]
            check_program(program, images, device, plan=default)
    executors = {}
    for name, size in MODELS.items():
        if rehearse:
            size = (size[0] // 4, size[1] // 4)
        with check.part(f"{name} against the interpreter"):
            program, _ = read_program(name)
            executor = TorchExecutor(program, device)
            image = images_of(1, size, "cpu")[0].numpy()
            expected = Interpreter(program)
            np.testing.assert_array_equal(executor.scores(image), expected.scores(image))
            np.testing.assert_array_equal(executor.class_map(image), expected.class_map(image))
            executors[name] = executor
    if not rehearse:
        for name, executor in executors.items():
            with check.part(f"{name} in a CUDA graph"):
                check_graph(executor, MODELS[name])
            with check.part(f"{name}, speed") as found:
                found |= time_network(executor, MODELS[name])
        with check.part("convolutions, speed") as found:
            found["times"] = list(time_convolutions(had, default))
    print(f"written to {out / 'gpu_check.json'}")
    if check.failed:
        print(f"{len(check.failed)} failed: {', '.join(check.failed)}")
    return 1 if check.failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check"), help="for the figures")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, without kernels")
    options = parser.parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        print("gpu-check: torch sees no GPU on this machine", file=sys.stderr)
        return 1
    return run(options.out, rehearse=options.rehearse)


if __name__ == "__main__":
    sys.exit(main())
