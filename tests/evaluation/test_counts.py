"""Histograms against loops, also where they are added up from strips."""

import numpy as np
import pytest
import torch

from binseg.evaluation import counts
from binseg.evaluation.scores import confusion


@pytest.mark.parametrize("strip", [7, 1 << 24])
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (2, 3, 7)])
def test_pairs_and_ids(monkeypatch, strip, shape):
    monkeypatch.setattr(counts, "_STRIP", strip)
    rng = np.random.default_rng(0)
    first, second = (rng.choice([0, 3, 254, 255], shape).astype(np.uint8) for _ in range(2))
    where = rng.random(shape) < 0.6
    pairs, alone = np.zeros((256, 256), np.int64), np.zeros(256, np.int64)
    for one, two, counted in zip(first.flat, second.flat, where.flat, strict=True):
        pairs[one, two] += 1
        alone[one] += counted
    assert np.array_equal(counts.count_pairs(first, second), pairs)
    assert counts.count_pairs(first, second).dtype == np.int64
    assert np.array_equal(counts.count_ids(first, where), alone)


def test_views_with_strides():
    ids = np.arange(60, dtype=np.uint8).reshape(6, 10)[::2, ::3]
    assert counts.count_pairs(ids, ids).diagonal().nonzero()[0].tolist() == ids.ravel().tolist()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("num_classes", [1, 21, 255])
def test_both_ways_of_counting_agree(dtype, num_classes):
    """An id that no byte holds, on an ignored pixel, sends `confusion` the general way."""
    rng = np.random.default_rng(1)
    truth = torch.from_numpy(rng.integers(0, num_classes, (9, 11)))
    prediction = torch.from_numpy(rng.integers(0, num_classes, (9, 11)))
    truth[2:4] = 255
    general = prediction.clone()
    general[2] = -7
    found = confusion(prediction.to(dtype), truth.to(dtype), num_classes)
    assert found.dtype == torch.int64
    assert torch.equal(found, confusion(general, truth, num_classes))
    assert found.sum() == 77
