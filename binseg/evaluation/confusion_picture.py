"""The confusion matrix as a picture."""

from pathlib import Path

import numpy as np

from binseg.atomic import atomic_path
from binseg.evaluation.scores import Scores
from binseg.visualize import shortened

_LONGEST_NAME = 22
_CELL = 0.42  # inches: room for "100" in the smallest type that can be read


def draw_confusion(scores: Scores, path: str | Path, title: str = "") -> None:
    """Draw the matrix, each row divided by its sum: how a class's true pixels were predicted.

    A class that is not in the truth has a grey row. The diagonal is the class's accuracy; its IoU
    stands beside the name.

    Args:
        scores: holds the matrix, the class names and IoUs.
        path: the PNG to write; whole or not at all.
        title: a line above the matrix; the mean IoU is added.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    counts = np.asarray(scores.matrix, dtype=np.float64)
    pixels = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, pixels, out=np.full_like(counts, np.nan), where=pixels > 0)
    # matplotlib reads $…$ as mathematics
    names = [shortened(name, _LONGEST_NAME).replace("$", r"\$") for name in scores.names]
    rows = [f"{name}  {_percent(iou)}" for name, iou in zip(names, scores.iou, strict=True)]
    size = max(2.4, _CELL * len(names))
    figure = Figure(figsize=(size + 3.6, size + 2.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    colors = colormaps["Blues"].with_extremes(bad="0.9")
    shown = axes.imshow(shares, cmap=colors, vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), rows)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class, IoU in %")
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    for row, column in zip(*np.nonzero(np.nan_to_num(shares) >= 0.005), strict=True):
        share = shares[row, column]
        ink = "white" if share > 0.55 else "black"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=ink, size=8)
    lines = [title.replace("$", r"\$")] * bool(title) + [f"mIoU {_percent(scores.mean_iou)} %"]
    axes.set_title("\n".join(lines), fontsize=11)
    figure.colorbar(shown, ax=axes, shrink=0.6, label="share of the true class's pixels")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"
