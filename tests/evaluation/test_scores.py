"""Scores against formulas worked by hand."""

import json
import math

import numpy as np
import pytest
import torch

from binseg.errors import BinsegError
from binseg.evaluation.confusion import ConfusionMatrix
from binseg.evaluation.scores import Scores, confusion


def test_counts_follow_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, (3, 7, 9)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.2] = 255
    prediction = rng.integers(0, 5, truth.shape).astype(np.uint8)
    expected = np.zeros((5, 5), dtype=np.int64)
    for t, p in zip(truth.ravel(), prediction.ravel(), strict=True):
        if t != 255:
            expected[t, p] += 1
    found = confusion(torch.from_numpy(prediction), torch.from_numpy(truth), 5)
    assert found.dtype == torch.int64
    assert found.tolist() == expected.tolist()


def test_absent_class_and_ignored_pixel():
    """The example on which library metrics disagree (shared pitfalls): the truth is ½.

    Class 2 is absent; the last pixel has no label and must not be a false positive of class 1.
    IoU of class 0: 1 / 2; of class 1: 1 / 2.
    """
    truth, prediction = torch.tensor([[0, 0, 1, 255]]), torch.tensor([[0, 1, 1, 1]])
    scores = Scores.of(confusion(prediction, truth, 3), ["a", "b", "c"])
    assert scores.iou[:2] == (0.5, 0.5)
    assert math.isnan(scores.iou[2])
    assert scores.mean_iou == 0.5


def test_class_in_the_prediction_alone_counts_as_zero():
    scores = Scores.of(confusion(torch.tensor([0, 2]), torch.tensor([0, 0]), 3), "abc")
    assert scores.iou[0] == 0.5
    assert math.isnan(scores.iou[1])
    assert scores.iou[2] == 0.0
    assert scores.mean_iou == 0.25
    # not in the truth: no accuracy, no weight
    assert math.isnan(scores.accuracy[2])
    assert scores.mean_accuracy == 0.5
    assert scores.frequency_weighted_iou == 0.5


def test_formulas_by_hand():
    # truth: 10 pixels of a, 6 of b, 4 of c
    matrix = torch.tensor([[8, 2, 0], [1, 4, 1], [0, 2, 2]])
    scores = Scores.of(matrix, ["a", "b", "c"])
    assert scores.iou == pytest.approx((8 / 11, 4 / 10, 2 / 5))
    assert scores.accuracy == pytest.approx((8 / 10, 4 / 6, 2 / 4))
    assert scores.mean_iou == pytest.approx((8 / 11 + 4 / 10 + 2 / 5) / 3)
    assert scores.pixel_accuracy == pytest.approx(14 / 20)
    assert scores.mean_accuracy == pytest.approx((8 / 10 + 4 / 6 + 2 / 4) / 3)
    weighted = (10 * 8 / 11 + 6 * 4 / 10 + 4 * 2 / 5) / 20
    assert scores.frequency_weighted_iou == pytest.approx(weighted)


def test_nothing_labelled_gives_no_score():
    scores = Scores.of(confusion(torch.tensor([1]), torch.tensor([255]), 2), ["a", "b"])
    assert math.isnan(scores.mean_iou)
    assert math.isnan(scores.pixel_accuracy)


def test_json_has_null_for_nan():
    scores = Scores.of(confusion(torch.tensor([0]), torch.tensor([0]), 2), ["a", "b"])
    text = json.dumps(scores.to_dict(), allow_nan=False)
    assert json.loads(text)["classes"] == {
        "a": {"iou": 1.0, "accuracy": 1.0, "pixels": 1},
        "b": {"iou": None, "accuracy": None, "pixels": 0},
    }


@pytest.mark.parametrize(
    ("prediction", "truth", "words"),
    [
        ([0, 3, 7], [0, 1, 1], "predicted ids 3, 7 are outside 0..2"),
        ([0, -1, 0], [0, 1, 1], "predicted ids -1 are outside 0..2"),
        ([0, 1, 1], [0, 11, 254], "label ids 11, 254 are outside 0..2 or 255"),
        ([0, 1, 1], [0, 1, -1], "label ids -1 are outside 0..2 or 255"),
        ([0, 1], [0, 1, 1], "shape"),
    ],
)
def test_ids_out_of_range_are_named(prediction, truth, words):
    with pytest.raises(BinsegError, match=words):
        confusion(torch.tensor(prediction), torch.tensor(truth), 3)


def test_what_is_predicted_without_a_label_does_not_matter():
    assert confusion(torch.tensor([0, 255]), torch.tensor([0, 255]), 2).sum() == 1


def test_scores_refuse_another_number_of_names():
    with pytest.raises(ValueError, match="3 classes"):
        Scores.of(torch.zeros(2, 2, dtype=torch.int64), ["a", "b", "c"])


class TestConfusionMatrix:
    def test_adds_up_over_batches_and_resets(self):
        metric = ConfusionMatrix(3)
        truth = torch.randint(0, 3, (4, 6, 5), dtype=torch.uint8)
        prediction = torch.randint(0, 3, (4, 6, 5), dtype=torch.uint8)
        metric.update(prediction[:3], truth[:3])
        metric.update(prediction[3], truth[3])
        assert torch.equal(metric.compute(), confusion(prediction, truth, 3))
        metric.reset()
        assert metric.matrix.sum() == 0

    def test_processes_are_summed_in_int64(self):
        metric = ConfusionMatrix(2)
        metric.update(torch.tensor([0]), torch.tensor([0]))
        many = torch.full((2, 2), 2**40)  # more pixels than float32 or int32 can count
        gathered = torch.stack([metric.matrix, many])
        summed = metric._reductions["matrix"](gathered)
        assert summed.dtype == torch.int64
        assert summed.tolist() == [[2**40 + 1, 2**40], [2**40, 2**40]]

    def test_matrix_is_kept_out_of_a_model_file(self):
        assert ConfusionMatrix(2).state_dict() == {}
