"""Seconds of a training step (forward, backward, AdamW) for docs/results/README.md.

    python docs/results/training_step.py > docs/results/training_step.json

All variants are measured in turn in one process, several rounds; the figure is the minimum of
the per-round medians. The grouped form of K bases (one convolution with K groups) is measured
beside a loop over K convolutions on the same block.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from binseg.nn import create_model
from binseg.nn.backbones.groupnet import BasicGroupBlock, GroupNetOptions
from binseg.nn.layers import BinaryConv2d
from binseg.training.config import OptimizerConfig
from binseg.training.optimization import create_optimizer

ROUNDS, STEPS = 2, 2
HEIGHT, WIDTH, BATCH = 360, 480, 4
NETWORKS = {
    "twin": {"precision": "full"},
    "K=1": {"bases": 1},
    "K=2": {"bases": 2},
    "K=4": {"bases": 4},
}


def seconds(step: Callable[[], None]) -> float:
    """Median of a few calls."""
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def network_step(options: dict, bf16: bool) -> Callable[[], None]:
    """One step of groupnet18_star at full width, dilated FCN head at output stride 16."""
    model = create_model("groupnet18_star", num_classes=11, output_stride=16, **options)
    model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer(model, OptimizerConfig())
    images = torch.randn(BATCH, 3, HEIGHT, WIDTH).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 11, (BATCH, HEIGHT, WIDTH))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def loop_over_bases(self: BinaryConv2d, x: Tensor, weight: Tensor) -> Tensor:
    """The other form: one convolution for each base."""
    inputs = [x] * self.bases if self.shared_input else x.chunk(self.bases, dim=1)
    parts = zip(inputs, weight.chunk(self.bases), self.dilations, strict=True)
    return torch.cat([self._pad_and_convolve(*part, groups=1) for part in parts], dim=1)


def block_step(bases: int, bf16: bool, form: Callable) -> Callable[[], None]:
    """Forward and backward of one basic block of 128 channels at 45×60, batch 4."""
    options = GroupNetOptions(bases=bases, shortcut="conv")
    block = BasicGroupBlock(options, 128, 128, stride=1, dilations=(1,) * bases, first=False)
    block.to(memory_format=torch.channels_last)
    branches = torch.randn(BATCH, bases * 128, 45, 60).to(memory_format=torch.channels_last)
    merged = torch.randn(BATCH, 128, 45, 60).to(memory_format=torch.channels_last)

    def step() -> None:
        BinaryConv2d._convolve = form  # type: ignore[method-assign]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out, total = block(branches, merged)
        (out.float().mean() + total.float().square().mean()).backward()

    return step


def measure(steps: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Least median over the rounds, all variants in turn."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(ROUNDS + 1):  # the first round warms up
        for name, step in steps.items():
            best[name] = min(best[name], seconds(step))
    return {name: round(value, 4) for name, value in best.items()}


def main() -> None:
    load = os.getloadavg()[0]
    grouped = BinaryConv2d._convolve
    variants = [("fp32", False), ("bf16", True)]
    networks = {
        f"{name} {precision}": network_step(options, bf16)
        for precision, bf16 in variants
        for name, options in NETWORKS.items()
    }
    blocks = {
        f"K={bases} {precision} {name}": block_step(bases, bf16, form)
        for bases in (2, 4)
        for precision, bf16 in variants
        for name, form in (("grouped", grouped), ("loop", loop_over_bases))
    }
    json.dump(
        {
            "date": time.strftime("%Y-%m-%d"),
            "processor": platform.processor() or platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "load_before": load,
            "torch": torch.__version__,
            "picture": [HEIGHT, WIDTH],
            "batch": BATCH,
            "seconds_a_step": measure(networks),
            "seconds_a_block": measure(blocks),
        },
        sys.stdout,
        indent=1,
    )


if __name__ == "__main__":
    main()
