"""Bar charts of a benchmark: speed, file size and memory beside fp32."""

from pathlib import Path
from typing import Any

from binseg.atomic import atomic_path
from binseg.bench.files import TWIN
from binseg.bench.layers import FP32, INT8

_GREY, _BLUE, _ORANGE = "#9aa0a6", "#4878a8", "#d9772b"
_KEPT = {"bits": "1-bit to bits", "real": "1-bit fused"}
_FASTER = "times faster than the best fp32 of torch"


def draw(result: dict[str, Any], path: Path) -> bool:
    """Write a PNG with a panel for each thing that was measured; all axes begin at 0.

    Args:
        result: of `run_bench`.
        path: ends in .png.

    Returns:
        Whether there was anything to draw.
    """
    panels = [*_network_panels(result), *_cost_panels(result)]
    rows = [row for row in result.get("layers", []) if row["speedup_over_fp32"]]
    numbers = list(dict.fromkeys(row["threads"] for row in rows))
    if not panels and not numbers:
        return False
    # half a second that a benchmark without a chart need not wait
    from matplotlib.figure import Figure

    heights = [1.0 + 0.27 * len(bars) for _, _, bars in panels] + [3.6] * len(numbers)
    figure = Figure(figsize=(10, sum(heights)), dpi=120, layout="constrained")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (title, unit, bars) in zip(axes, panels, strict=False):
        drawn = axis.barh(list(bars), list(bars.values()), color=[_color(name) for name in bars])
        labels = axis.bar_label(
            drawn, labels=[f"{x:.3g}" for x in bars.values()], padding=3, fontsize=8
        )
        for label in labels:  # the line at 1 would run through some of them
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        axis.invert_yaxis()
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel(unit, fontsize=8)
        axis.margins(x=0.12)
        if unit == _FASTER:
            axis.axvline(1, color="black", linewidth=0.8, linestyle="--")
    for axis, number in zip(axes[len(panels) :], numbers, strict=True):
        _grouped(axis, [row for row in rows if row["threads"] == number])
        axis.set_title(f"3×3 convolution, threads: {number}", fontsize=10, loc="left")
        axis.set_ylabel(_FASTER, fontsize=8)
    for axis in axes:
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    machine = result["machine"]
    figure.suptitle(
        f"{machine['gpu'] or machine['processor']}, {result['date'][:10]}, "
        f"binseg {result['versions']['binseg']}, torch {result['versions']['torch']}",
        fontsize=9,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return True


def _network_panels(result: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """Title, unit, side → value."""
    panels = []
    for found in result.get("networks", []):
        height, width = found["picture"]
        title = (
            f"{result['network']['title']}: {height} × {width}, {found['device']}, "
            f"threads: {found['threads']}"
        )
        if found["speedup_over_fp32"]:
            panels.append((title, _FASTER, found["speedup_over_fp32"]))
    return panels


def _cost_panels(result: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    panels = []
    if "size" in result:
        sizes = {name: figures["bytes"] / 1e6 for name, figures in result["size"].items()}
        panels.append(("model file", "MB", sizes))
    if "memory" in result:
        growth = {name: figures["growth"] / 1e6 for name, figures in result["memory"].items()}
        panels.append(("memory that a forward takes", "MB", growth))
    return panels


def _grouped(axis: Any, rows: list[dict[str, Any]]) -> None:
    """A group of bars for each shape: the best bf16 and int8, and each backend's 1-bit ones."""
    groups = [_chosen(row["speedup_over_fp32"]) for row in rows]
    sides = list(groups[0])
    width = 0.85 / len(sides)
    shades = iter((_ORANGE, "#e59a5f", "#f0c3a0", "#7b4fa3", "#a184bf", "#cbbbdc"))
    colors = {"bf16": "#8fb0d0", "int8": _BLUE}
    for index, side in enumerate(sides):
        drawn = axis.bar(
            [group + index * width for group in range(len(groups))],
            [group[side] for group in groups],
            width,
            label=side,
            color=colors.get(side) or next(shades, _GREY),
        )
        axis.bar_label(drawn, fmt="%.1f", padding=2, fontsize=6)
    axis.axhline(1, color="black", linewidth=0.8, linestyle="--")
    axis.set_xticks(
        [group + width * (len(sides) - 1) / 2 for group in range(len(groups))],
        [row["shape"]["name"] for row in rows],
    )
    axis.margins(y=0.12)
    axis.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.08))


def _chosen(ratios: dict[str, float]) -> dict[str, float]:
    found = {"bf16": ratios.get("bf16 channels_last", 0.0)}
    found["int8"] = max((ratios[name] for name in INT8 if name in ratios), default=0.0)
    for side, ratio in ratios.items():
        backend, _, what = side.partition(" ")
        if what in _KEPT and side not in FP32:
            found[f"{backend}: {_KEPT[what]}"] = ratio
    return {name: ratio for name, ratio in found.items() if ratio}


def _color(side: str) -> str:
    if side.startswith("1-bit"):
        return _ORANGE
    return _GREY if side.startswith(("fp32", TWIN)) else _BLUE
