"""Bar charts of a benchmark: time to the class map, file size and memory."""

from pathlib import Path
from typing import Any

from binseg.atomic import atomic_path

_GREY, _BLUE, _ORANGE = "#9aa0a6", "#4878a8", "#d9772b"


def draw(result: dict[str, Any], path: Path) -> bool:
    """Write a PNG with a panel for each thing that was measured; all axes begin at 0.

    Args:
        result: of `run_bench`.
        path: ends in .png.

    Returns:
        Whether there was anything to draw.
    """
    panels = list(_panels(result))
    if not panels:
        return False
    # half a second that a benchmark without a chart need not wait
    from matplotlib.figure import Figure

    heights = [1.0 + 0.27 * len(bars) for _, _, bars in panels]
    figure = Figure(figsize=(10, sum(heights)), dpi=120, layout="constrained")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (title, unit, bars) in zip(axes, panels, strict=True):
        drawn = axis.barh(list(bars), list(bars.values()), color=[_color(name) for name in bars])
        axis.bar_label(drawn, labels=[f"{x:.3g}" for x in bars.values()], padding=3, fontsize=8)
        axis.invert_yaxis()
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel(unit, fontsize=8)
        axis.margins(x=0.12)
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


def _panels(result: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """Title, unit, name → value."""
    panels = []
    for found in result.get("networks", []):
        height, width = found["image"]
        title = (
            f"{result['subject']['title']}: {height} × {width}, {found['device']}, "
            f"threads: {found['threads']}"
        )
        times = {name: each["seconds"] * 1e3 for name, each in found["candidates"].items()}
        panels.append((title, "ms from the image to its class map", times))
    if "size" in result:
        sizes = {name: figures["bytes"] / 1e6 for name, figures in result["size"].items()}
        panels.append(("model file", "MB", sizes))
    if "memory" in result:
        peaks = {name: figures["peak"] / 1e6 for name, figures in result["memory"].items()}
        panels.append(("most memory of a process that segments an image", "MB", peaks))
    return panels


def _color(name: str) -> str:
    if name.startswith("1-bit"):
        return _ORANGE
    return _GREY if name.startswith("fp32") else _BLUE
