"""Paired differences of two networks: values by hand, intervals against theory."""

import numpy as np
import pytest

from binseg.errors import BinsegError
from binseg.evaluation.bootstrap import difference_dict, paired_difference


def counts_of(right: np.ndarray, size: int = 1000) -> np.ndarray:
    """(N, 3, 2) counts of images of two classes, `size` pixels each, of which as many are right."""
    wrong = size - right
    one = np.stack([right, np.full_like(right, size), right + wrong])
    return np.stack([one, one], axis=2).transpose(1, 0, 2)


def test_the_value_is_that_of_the_whole_sets() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(300, 900, 40) for _ in range(2))
    found = paired_difference([[counts_of(first)]], [[counts_of(second)]], block=4)
    iou = [right.sum() / (2 * 40 * 1000 - right.sum()) for right in (first, second)]
    assert found.mean_iou.value == pytest.approx(iou[0] - iou[1])
    assert [each.value for each in found.iou] == pytest.approx([iou[0] - iou[1]] * 2)
    assert found.blocks == 10


def test_equal_networks_differ_by_nothing() -> None:
    counts = counts_of(np.random.default_rng(0).integers(300, 900, 40))
    assert paired_difference([[counts]], [[counts]]).mean_iou == (0, 0, 0)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """The spread of a mean of 400 independent images, and pairing takes out what they share."""
    rng = np.random.default_rng(1)
    hard = rng.integers(200, 800, 400)  # how hard an image is, for both
    own = rng.normal(20, 60, 400).astype(int)
    first, second = counts_of(hard + own), counts_of(hard)
    found = paired_difference([[first]], [[second]], block=1).mean_iou
    # iou = r / (2 − r) with r the share that is right, so d iou = 2 / (2 − r)² d r
    share = hard.mean() / 1000
    slope = 2 / (2 - share) ** 2
    deviation = slope * own.std() / 1000 / np.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.12)
    assert found.low < found.value < found.high


def test_blocks_of_alike_images_widen_the_interval() -> None:
    """Ten copies of each image say no more than one: their interval must not shrink."""
    rng = np.random.default_rng(2)
    single = [counts_of(rng.integers(300, 900, 30)) for _ in range(2)]
    copies = [np.repeat(counts, 10, axis=0) for counts in single]
    widths = []
    for sides, block in ((single, 1), (copies, 10), (copies, 1)):
        interval = paired_difference([[sides[0]]], [[sides[1]]], block=block).mean_iou
        widths.append(interval.high - interval.low)
    assert widths[1] == pytest.approx(widths[0])
    assert widths[2] < 0.5 * widths[1]


def test_seeds_are_averaged() -> None:
    rng = np.random.default_rng(3)
    first = [counts_of(rng.integers(300, 900, 40)) for _ in range(3)]
    second = [counts_of(rng.integers(300, 900, 40)) for _ in range(3)]
    alone = [
        paired_difference([[a]], [[b]]).mean_iou.value for a, b in zip(first, second, strict=True)
    ]
    assert paired_difference([first], [second]).mean_iou.value == pytest.approx(np.mean(alone))


def test_folds_are_averaged_and_drawn_by_themselves() -> None:
    rng = np.random.default_rng(4)
    folds = [[[counts_of(rng.integers(300, 900, n))] for n in (40, 400)] for _ in range(2)]
    alone = [paired_difference([a], [b]).mean_iou for a, b in zip(*folds, strict=True)]
    found = paired_difference(*folds)
    assert found.mean_iou.value == pytest.approx(np.mean([each.value for each in alone]))
    assert found.blocks == 4 + 40
    # independent folds: deviations of a mean of two
    widths = [each.high - each.low for each in alone]
    width = found.mean_iou.high - found.mean_iou.low
    assert width == pytest.approx(np.hypot(*widths) / 2, rel=0.1)


def test_a_class_that_never_occurs_has_no_difference_and_no_part_in_the_mean() -> None:
    counts = np.concatenate([counts_of(np.arange(300, 340)), np.zeros((40, 3, 1), int)], axis=2)
    other = np.concatenate([counts_of(np.arange(200, 240)), np.zeros((40, 3, 1), int)], axis=2)
    found = paired_difference([[counts]], [[other]])
    assert found.mean_iou.value == pytest.approx(found.iou[0].value)
    assert str(found.iou[2]) == "–"
    plain = difference_dict(found, ["a", "b", "c"], 10)
    assert plain["class_differences"]["c"] == {"value": None, "low": None, "high": None}


def test_too_few_images_for_an_interval_are_refused() -> None:
    counts = counts_of(np.arange(300, 310))
    with pytest.raises(BinsegError, match=r"10 images make 1 block of 10.*--block"):
        paired_difference([[counts]], [[counts]])
    with pytest.raises(BinsegError, match="1 image or more"):
        paired_difference([[counts]], [[counts]], block=0)
