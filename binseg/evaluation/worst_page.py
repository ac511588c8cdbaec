"""A page of the images that a model does worst on."""

import html
import math
from collections.abc import Sequence
from pathlib import Path

from binseg.atomic import atomic_path
from binseg.data.datasets import SegmentationDataset
from binseg.data.imageio import write_image
from binseg.evaluation.result import Evaluation, WorstImage
from binseg.visualize import comparison

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem;
  padding: 0 1rem; color: #222; background: #fff }}
figure {{ margin: 0 0 2.2rem; padding-top: .8rem; border-top: 1px solid #ccc }}
figcaption {{ margin-bottom: .5rem; overflow-wrap: anywhere }}
figcaption small {{ color: #555 }}
img {{ max-width: 100%; height: auto; display: block }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
{figures}
</body></html>
"""

_FIGURE = """<figure id="p{number}"><figcaption><b>{number}. {name}</b>: mIoU {mean_iou},
pixel accuracy {accuracy}<br><small>IoU: {classes}</small></figcaption>
<a href="{strip}"><img src="{thumbnail}" loading="lazy" alt="image, truth, prediction and errors
of {name}"></a></figure>"""


def write_worst_page(
    evaluation: Evaluation, dataset: SegmentationDataset, folder: str | Path, title: str = ""
) -> Path:
    """Write index.html and its images into `folder`, which can be moved and opened anywhere.

    Args:
        evaluation: its `worst` images are shown, in their order.
        dataset: the data set that was scored; images and labels are read from it again.
        folder: made if missing; files of an earlier page are overwritten.
        title: of the page.

    Returns:
        The page's path.
    """
    folder = Path(folder)
    figures = [
        _figure(number, kept, evaluation, dataset, folder)
        for number, kept in enumerate(evaluation.worst, start=1)
    ]
    scores = evaluation.scores
    summary = (
        f"The {len(figures)} images of {len(evaluation.images)} with the lowest mean IoU. "
        f"The whole set: mIoU {_percent(scores.mean_iou)}, pixel accuracy "
        f"{_percent(scores.pixel_accuracy)}. Click a strip for a larger one."
    )
    page = _PAGE.format(
        title=html.escape(title or "Worst images"), summary=summary, figures="\n".join(figures)
    )
    path = folder / "index.html"
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _figure(
    number: int,
    kept: WorstImage,
    evaluation: Evaluation,
    dataset: SegmentationDataset,
    folder: Path,
) -> str:
    sample = dataset[kept.place]
    # files are numbered, not named: an image's name may hold what a URL or a disk does not allow
    strip, thumbnail = f"{number:03d}.jpg", f"{number:03d}_small.jpg"
    for file, panel in ((strip, 960), (thumbnail, 320)):
        image = comparison(
            sample.image, sample.labels, kept.prediction, evaluation.labels, panel=panel
        )
        write_image(folder / file, image)
    return _FIGURE.format(
        number=number,
        name=html.escape(kept.score.name),
        mean_iou=_percent(kept.score.mean_iou),
        accuracy=_percent(kept.score.pixel_accuracy),
        classes=_classes(evaluation.labels.names, kept.score.iou),
        strip=strip,
        thumbnail=thumbnail,
    )


def _classes(names: Sequence[str], iou: Sequence[float]) -> str:
    """The image's classes with their IoU, the worst first."""
    present = sorted(
        (value, name) for name, value in zip(names, iou, strict=True) if not math.isnan(value)
    )
    return ", ".join(f"{html.escape(name)} {_percent(value)}" for value, name in present)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
