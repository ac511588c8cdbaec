"""Checks that there is something to learn and to score: every class labelled in train, some pixel
in val, two classes at least.

A class that no mask has is learnt by nobody, and its absence is easily taken for a result: masks
of 0 and 255 with two classes train one class only, since 255 is ignored unless a class has it.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from binseg.data.label_table import IGNORE, LabelTable
from binseg.data.samples import SegmentationDataset
from binseg.errors import BinsegError

SWITCH = "--data.allow_missing_classes true"


def require_labels(
    train: Sequence[SegmentationDataset], val: SegmentationDataset, *, allow_missing: bool = False
) -> None:
    """Refuse data that nothing can be learnt from, or scored on, before the first step.

    Masks are read, from all over the split, until every class was seen: a few for most sets, all
    if a class is missing. Drawn scenes are not looked at.

    Args:
        train: what is trained on, one data set or several of the same classes.
        val: what is scored.
        allow_missing: do not look for classes without a pixel in train.

    Raises:
        BinsegError: what is missing and the remedy; or a faulty mask.
    """
    labels = val.labels
    if (text := one_class(labels)) is not None:
        raise BinsegError(text)
    if any(len(each) and each.sample_paths(0) is None for each in (*train, val)):
        return
    if not allow_missing:
        counts = _count(train, labels.num_classes)
        masks = sum(len(each) for each in train)
        if (text := missing_classes(labels, counts, masks)) is not None:
            raise BinsegError(text)
    require_scored_pixels(val, "val")


def require_scored_pixels(dataset: SegmentationDataset, split: str) -> None:
    """Refuse a split all of whose pixels are ignored; reads masks until one has a class.

    Args:
        dataset: what is scored; drawn scenes are not looked at.
        split: its name, for the message.

    Raises:
        BinsegError: what is missing and the remedy; or a faulty mask.
    """
    if len(dataset) and dataset.sample_paths(0) is None:
        return
    counts = _count([dataset], 1)
    if (text := nothing_to_score(dataset.labels, counts, len(dataset), split)) is not None:
        raise BinsegError(text)


def one_class(labels: LabelTable) -> str | None:
    """What to say of a table of one class; None if it has more."""
    if labels.num_classes > 1:
        return None
    return (
        f"label table '{labels.name}': has one class only, '{labels.names[0]}', so nothing can be "
        "told apart; add one for everything else, such as `classes: [background, "
        f"{{name: {labels.names[0]}, id: 255}}]` for masks of 0 and 255"
    )


def missing_classes(labels: LabelTable, counts: np.ndarray, masks: int) -> str | None:
    """What to say of classes without a pixel in train; None if there are none.

    Args:
        labels: the classes.
        counts: int64 (256,): pixels of all masks by train id, ignored ones at 255.
        masks: their number.
    """
    missing = [name for name, pixels in zip(labels.names, counts, strict=False) if not pixels]
    if not missing:
        return None
    several = len(missing) > 1
    names = ", ".join(f"'{name}'" for name in missing[:8]) + " …" * (len(missing) > 8)
    if _only_0_and_255(labels, counts):
        remedy = (
            "the masks hold 0 and 255, and 255 is ignored unless a class has it: write "
            f"`{{name: {missing[0]}, id: 255}}` in labels.yaml"
        )
    else:
        remedy = (
            f"label {'them' if several else 'it'}, or leave {'them' if several else 'it'} out of "
            "labels.yaml or by data.classes"
        )
    return (
        f"train: class{'es' if several else ''} {names} without a pixel in any of {masks:,} masks; "
        f"{remedy} ({SWITCH} lets it pass)"
    )


def nothing_to_score(
    labels: LabelTable, counts: np.ndarray, masks: int, split: str = "val"
) -> str | None:
    """What to say if all of a split is ignored; None if some pixel counts.

    Args:
        labels: the classes.
        counts: int64 (256,): pixels of all masks by train id, ignored ones at 255.
        masks: their number.
        split: its name.
    """
    if counts[: labels.num_classes].any():
        return None
    ids = ", ".join(
        str(raw) for raw, train in sorted(labels.raw_to_train.items()) if train == IGNORE
    )
    return (
        f"{split}: all pixels of its {masks:,} masks are ignored, so nothing can be scored; label "
        f"some, or correct the ids that are ignored ({ids[:80]})"
    )


def not_scored(
    labels: LabelTable, trained: np.ndarray, scored: np.ndarray, masks: int
) -> str | None:
    """What to say of classes of train without a pixel in val; None if there are none.

    Args:
        labels: the classes.
        trained: int64 (256,): pixels of train by train id.
        scored: int64 (256,): those of val.
        masks: masks of val.
    """
    missing = [
        f"'{name}'"
        for name, there, counted in zip(labels.names, trained, scored, strict=False)
        if there and not counted
    ]
    if not missing:
        return None
    return (
        f"val: no pixel of {', '.join(missing)} in any of {masks:,} masks; "
        f"{'they are' if len(missing) > 1 else 'it is'} not scored there"
    )


def _only_0_and_255(labels: LabelTable, counts: np.ndarray) -> bool:
    """Whether masks with these counts hold the raw ids 0 and 255 only, the latter ignored."""
    ids = labels.raw_to_train
    ignored = [raw for raw, train in ids.items() if train == IGNORE]
    present = [train for train in range(labels.num_classes) if counts[train]]
    if ignored != [255] or not counts[IGNORE] or len(present) != 1:
        return False
    return [raw for raw, train in ids.items() if train == present[0]] == [0]


def _count(datasets: Sequence[SegmentationDataset], enough: int) -> np.ndarray:
    """int64 (256,): pixels by train id, of as many masks as it takes to see `enough` classes."""
    counts = np.zeros(IGNORE + 1, np.int64)
    for dataset in datasets:
        for index in _scattered(len(dataset)):
            counts += np.bincount(dataset.read_labels(index).ravel(), minlength=IGNORE + 1)
            if np.count_nonzero(counts[: dataset.labels.num_classes]) >= enough:
                return counts
    return counts


def _scattered(length: int) -> Iterator[int]:
    """0 … length − 1, neighbours far apart: images of one film or folder share their classes."""
    step = max(1, round(0.618 * length))
    while np.gcd(step, max(1, length)) > 1:
        step += 1
    return (index * step % length for index in range(length))
