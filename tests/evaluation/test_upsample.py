"""Strips give what the whole image gives."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from binseg.errors import BinsegError
from binseg.evaluation.upsample import ArgmaxRows, upsampled_argmax

SIZES = [
    ((6, 8), (48, 64)),
    ((7, 5), (23, 41)),
    ((9, 9), (9, 9)),
    ((20, 30), (7, 11)),
    ((1, 3), (5, 1)),
]


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_strips_equal_the_whole_exactly(source, target):
    scores = torch.randn(5, *source, generator=torch.Generator().manual_seed(0))
    whole = upsampled_argmax(scores, target, strip_bytes=1 << 30)
    for strip_bytes in (1, 3 * 4 * 5 * target[1], 7 * 4 * 5 * target[1]):
        assert np.array_equal(upsampled_argmax(scores, target, strip_bytes=strip_bytes), whole)


@pytest.mark.parametrize(("source", "target"), SIZES)
@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_rows_that_come_in_pieces(source, target, chunks):
    scores = torch.randn(4, *source, generator=torch.Generator().manual_seed(1))
    rows = ArgmaxRows(source, target)
    for piece in scores.split(chunks, dim=1):
        rows.push(piece)
    assert np.array_equal(rows.class_map, upsampled_argmax(scores, target))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_equals_interpolate_where_arithmetic_is_exact(factor):
    """Small integers times powers of two: no rounding anywhere, so equality is exact."""
    generator = torch.Generator().manual_seed(2)
    scores = torch.randint(-999, 999, (6, 11, 13), generator=generator).float()
    size = (11 * factor, 13 * factor)
    wide = F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]
    assert np.array_equal(upsampled_argmax(scores, size), wide.argmax(0).numpy())


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_equals_interpolate_up_to_ties(source, target):
    scores = torch.randn(5, *source, generator=torch.Generator().manual_seed(3))
    wide = F.interpolate(scores[None], size=target, mode="bilinear", align_corners=False)[0]
    best = wide.sort(dim=0, descending=True).values
    clear = (best[0] - best[1] > 1e-4).numpy()
    assert np.array_equal(upsampled_argmax(scores, target)[clear], wide.argmax(0).numpy()[clear])


def test_lowest_id_wins_a_tie():
    assert not upsampled_argmax(torch.zeros(3, 2, 2), (4, 4)).any()


def test_all_255_classes_fit():
    scores = torch.zeros(255, 2, 2)
    scores[254] = 1
    assert (upsampled_argmax(scores, (3, 3)) == 254).all()
    with pytest.raises(ValueError, match="255 classes"):
        upsampled_argmax(torch.zeros(256, 2, 2), (3, 3))


def test_half_precision_scores():
    scores = torch.randn(3, 4, 4).bfloat16()
    assert np.array_equal(
        upsampled_argmax(scores, (9, 9)), upsampled_argmax(scores.float(), (9, 9))
    )


@pytest.mark.parametrize("plane", [0, 2])
def test_nan_is_an_error(plane):
    scores = torch.zeros(3, 4, 4)
    scores[plane, 2, 1] = torch.nan
    with pytest.raises(BinsegError, match="nan"):
        upsampled_argmax(scores, (8, 8))
