"""Accuracy against time and bytes: the street networks and their int8 twins at several image sizes.

    python docs/results/street/front.py data/cityscapes256 data/CamVid/train docs/results/street

Each network sees images at a short side of 360 pixels, for which it was trained, and at smaller
ones, for which it was not: a twin of fewer pixels is what a user in a hurry would take. Scored on
Cityscapes' val, a copy squeezed to 256×256, with CamVid's classes; timed from a 480×360 image's
bytes to its class map, one thread, all in turns, held to each instruction set. int8 is OpenVINO's,
quantized by NNCF on 40 CamVid images.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from binseg.cli.bench import ISA_LIMITS

NAMES = "street-base", "street-small"
SIDES = 360, 270, 180
SIZE = 360, 480
LEVELS = {"AMX": {}, "AVX-512": ISA_LIMITS["avx512"], "AVX2": ISA_LIMITS["avx2"]}
_CALIBRATION, _ROUNDS, _SECONDS = 40, 7, 0.3
_TICKS = 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100


def candidates(calibration: Path, folder: Path) -> dict[str, tuple[int, Any, Any]]:
    """Label → bytes of the file, and the ways to run it that are scored, which take the class map's
    size, too, and timed."""
    from dataclasses import replace

    from binseg.bench.candidates import OPENVINO, int8_twin, packed_candidates
    from binseg.data.imageio import read_image
    from binseg.inference.packed import PackedNetwork
    from binseg.loaded import load, save
    from binseg.shipped import shipped_models

    images = [read_image(path) for path in sorted(calibration.iterdir())[:_CALIBRATION]]
    found: dict[str, tuple[int, Any, Any]] = {}
    for name in NAMES:
        shipped = shipped_models()[name]
        packed = load(shipped.path)
        upsampler = PackedNetwork(name, threads=1).native
        int8 = None
        if shipped.twin is not None:
            twin = load(shipped.twin)
            seen = packed.preprocessing
            int8 = int8_twin(twin.model, twin.labels, seen, images, folder, all_runtimes=False)
        for side in SIDES:
            seen = replace(packed.preprocessing, short_side=side)
            path = folder / f"{name}_{side}.safetensors"
            save(path, packed.model, packed.labels, seen)
            run = PackedNetwork(path, threads=1).class_map
            timed = packed_candidates("1 bit", path, 1)["1 bit"].segment
            found[f"{name}, 1 bit, {side}"] = path.stat().st_size, run, timed
            if int8 is None:
                continue
            int8 = replace(int8, preprocessing=seen)
            # the time is of images of one size, the score of another
            run = int8.candidates(1, None, upsampler)[OPENVINO].segment
            timed = int8.candidates(1, SIZE, upsampler)[OPENVINO].segment
            found[f"{name}, int8 twin, {side}"] = int8.bytes[OPENVINO], run, timed
    return found


def scores(cityscapes: Path, calibration: Path) -> dict[str, dict[str, float]]:
    """Label → bytes and mIoU."""
    from binseg.data.config import DataConfig
    from binseg.evaluation.evaluate import score

    data = DataConfig("cityscapes", str(cityscapes), stretch=2, relabel="camvid").open("val")
    found = {}
    with TemporaryDirectory() as folder:
        for label, (size, run, _) in candidates(calibration, Path(folder)).items():
            result = score(
                lambda sample, run=run: run(sample.image, sample.labels.shape),
                data,
                boundary_distance=None,
            )
            found[label] = {"bytes": size, "mean_iou": result.scores.mean_iou}
            print(f"{label}: {result.scores.mean_iou:.3f}", flush=True)
    return found


def times(calibration: Path) -> dict[str, float]:
    """Label → milliseconds."""
    from binseg.bench.timing import measure, threads
    from binseg.data.scenes import draw_scene

    image = draw_scene(0, 0, SIZE).image
    with TemporaryDirectory() as folder, threads(1):
        calls = {}
        for label, (_, _, run) in candidates(calibration, Path(folder)).items():
            calls[label] = lambda run=run: run(image)
        found = measure(calls, rounds=_ROUNDS, seconds=_SECONDS)
    return {label: 1e3 * timing.seconds for label, timing in found.items()}


def draw(networks: dict[str, dict[str, Any]], path: Path) -> None:
    """mIoU over milliseconds on each instruction set, and over bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    costs = {f"ms, one thread, {level}": level for level in LEVELS} | {"MB of the file": None}
    for axis, (title, level) in zip(figure.subplots(2, 2).flat, costs.items(), strict=True):
        for name in NAMES:
            for kind, style in (("1 bit", "o-"), ("int8 twin", "s--")):
                labels = [f"{name}, {kind}, {side}" for side in SIDES]
                rows = [networks[label] for label in labels if label in networks]
                cost = [row["ms"][level] if level else row["bytes"] / 1e6 for row in rows]
                color = "#d9772b" if kind == "1 bit" else "#4878a8"
                width = 1.8 if name == "street-base" else 1.0
                axis.plot(
                    cost,
                    [row["mean_iou"] for row in rows],
                    style,
                    color=color,
                    linewidth=width,
                    label=f"{name}, {kind}",
                )
        axis.set_xscale("log")
        low, high = axis.get_xlim()
        ticks = [each for each in _TICKS if low <= each <= high]
        axis.set_xticks(ticks, [f"{each:g}" for each in ticks])
        axis.minorticks_off()
        axis.set_xlabel(f"{title} (log)")
        axis.set_ylabel("mIoU, other cities")
        axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Scores once, times once for each instruction set, writes front.json and front.png."""
    if sys.argv[1] == "--times":
        print(json.dumps(times(Path(sys.argv[2]))))
        return
    cityscapes, calibration, out = map(Path, sys.argv[1:4])
    from binseg.bench.machine import describe

    found: dict[str, dict[str, Any]] = dict(scores(cityscapes, calibration))
    for level, limits in LEVELS.items():
        command = [sys.executable, __file__, "--times", str(calibration)]
        told = subprocess.run(
            command, env=os.environ | limits, capture_output=True, text=True, check=True
        ).stdout
        for label, milliseconds in json.loads(told.splitlines()[-1]).items():
            found[label].setdefault("ms", {})[level] = milliseconds
    report = describe() | {"size": SIZE, "networks": found}
    (out / "front.json").write_text(json.dumps(report, indent=1) + "\n")
    draw(found, out / "front.png")


if __name__ == "__main__":
    main()
