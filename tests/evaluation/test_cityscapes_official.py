"""The same files through cityscapesScripts and through binseg give the same figures."""

from pathlib import Path

import numpy as np
import pytest

from binseg.data.imageio import read_mask, write_mask
from binseg.data.labels import get_label_table
from binseg.data.samples import Sample
from binseg.evaluation.evaluate import folder_predictions, score

official = pytest.importorskip(
    "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", exc_type=ImportError
)

FRAMES = ("aachen_000000_000019", "bochum_000001_000019", "ulm_000007_000019")


class LabelFiles:
    """Cityscapes' label files alone: scoring masks needs no pictures."""

    faults = ()

    def __init__(self, files: list[Path]) -> None:
        self.files, self.labels = files, get_label_table("cityscapes")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        labels = self.labels.encode(read_mask(self.files[index]), self.files[index])
        name = self.files[index].name.removesuffix("_gtFine_labelIds.png")
        return Sample(np.zeros((*labels.shape, 3), np.uint8), labels, name)


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Label files in Cityscapes' layout, and predictions that are partly wrong, in raw ids.

    The labels hold void ids; `train` (31) is in neither, `bus` (28) in the predictions alone and
    there only on void pixels, `truck` (27) only in the predictions.
    """
    rng = np.random.default_rng(5)
    evaluated = [label.id for label in official.labels if not label.ignoreInEval and label.id >= 0]
    used = [id_ for id_ in evaluated if id_ not in (27, 28, 31)]
    truths, predictions = [], []
    for frame in FRAMES:
        truth = rng.choice([*used, 0, 1, 3, 6, 9, 30], (40, 80)).astype(np.uint8)
        prediction = np.where(
            rng.random(truth.shape) < 0.6, truth, rng.choice([*used, 27], truth.shape)
        )
        void = ~np.isin(truth, evaluated)
        prediction[void] = rng.choice([*used, 28], void.sum())
        truths.append(tmp_path / "gtFine/val" / frame[:-14] / f"{frame}_gtFine_labelIds.png")
        predictions.append(tmp_path / "results" / f"{frame}.png")
        write_mask(truths[-1], truth)
        write_mask(predictions[-1], prediction.astype(np.uint8))
    return truths, predictions


def test_same_scores(files, monkeypatch):
    truths, predictions = files
    for name, value in (("evalInstLevelScore", False), ("JSONOutput", False), ("quiet", True)):
        monkeypatch.setattr(official.args, name, value)
    theirs = official.evaluateImgLists(
        [str(path) for path in predictions], [str(path) for path in truths], official.args
    )
    dataset = LabelFiles(truths)
    read = folder_predictions(predictions[0].parent, dataset.labels, raw_ids=True)
    ours = score(read, dataset, boundary_distance=None).scores
    for name, iou in zip(ours.names, ours.iou, strict=True):
        assert iou == pytest.approx(theirs["classScores"][name], nan_ok=True), name
    assert ours.mean_iou == pytest.approx(theirs["averageScoreClasses"])
    absent = dict(zip(ours.names, ours.iou, strict=True))
    assert np.isnan(absent["train"])
    assert np.isnan(absent["bus"])
    assert absent["truck"] == 0.0
    assert 0.2 < ours.mean_iou < 0.9
