"""Losses against formulas worked by hand."""

import math

import pytest
import torch

from binseg.errors import BinsegError
from binseg.training.config import LossConfig
from binseg.training.losses import (
    SegmentationLoss,
    distillation_loss,
    log_frequency_weights,
    median_frequency_weights,
    named_weights,
    ohem_cross_entropy,
)

PROBABILITIES = [0.9, 0.5, 0.2, 0.6]


def two_class_logits(probabilities=PROBABILITIES):
    """(1, 2, 1, n): pixel i gives class 0 the probability p_i."""
    p = torch.tensor(probabilities)
    return torch.stack([p.log(), (1 - p).log()]).view(1, 2, 1, -1)


def labels(*values):
    return torch.tensor(values, dtype=torch.uint8).view(1, 1, -1)


def test_cross_entropy_leaves_255_out():
    loss = SegmentationLoss(LossConfig())(two_class_logits(), labels(0, 1, 255, 0))
    expected = -(math.log(0.9) + math.log(0.5) + math.log(0.6)) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_focal_loss_by_hand():
    """−(1 − p_t)^γ · ln p_t of each class's sigmoid, mean over labelled pixels, then classes."""
    logits = torch.tensor([[[[1.0, -2.0, 3.0]], [[0.5, 0.0, -1.0]]]])
    truth = labels(0, 1, 255)

    def term(logit, positive):
        p = 1 / (1 + math.exp(-logit))
        p = p if positive else 1 - p
        return -((1 - p) ** 1.5) * math.log(p)

    first = (term(1.0, True) + term(-2.0, False)) / 2
    second = (term(0.5, False) + term(0.0, True)) / 2
    config = LossConfig(name="focal", focal_gamma=1.5)
    assert SegmentationLoss(config)(logits, truth).item() == pytest.approx((first + second) / 2)
    weighted = SegmentationLoss(config, torch.tensor([1.0, 3.0]))(logits, truth)
    assert weighted.item() == pytest.approx((first + 3 * second) / 4)


def test_tversky_by_hand():
    """1 − TP / (TP + α·FP + β·FN) over the classes that occur."""
    p = [0.9, 0.5, 0.2]
    truth = labels(0, 1, 255)
    config = LossConfig(tversky=2.0, tversky_alpha=0.2, tversky_beta=0.8)
    logits = two_class_logits(p)
    # of class 0: TP .9, FP .5, FN .1; of class 1: TP .5, FP .1, FN .5
    scores = [0.9 / (0.9 + 0.2 * 0.5 + 0.8 * 0.1), 0.5 / (0.5 + 0.2 * 0.1 + 0.8 * 0.5)]
    ce = SegmentationLoss(LossConfig())(logits, truth).item()
    whole = SegmentationLoss(config)(logits, truth).item()
    assert whole - ce == pytest.approx(2 * (1 - sum(scores) / 2), rel=1e-4)


def test_weights_by_name():
    assert named_weights({"pole": 3, "sky": 0.5}, ["sky", "road", "pole"]).tolist() == [0.5, 1, 3]
    with pytest.raises(BinsegError, match=r"unknown class in loss\.class_weights 'poel'.*pole"):
        named_weights({"poel": 3}, ["sky", "road", "pole"])
    with pytest.raises(BinsegError, match="all are 0"):
        named_weights({"sky": 0, "road": 0}, ["sky", "road"])
    with pytest.raises(BinsegError, match="the weight of pole must be at least 0"):
        LossConfig(class_weights={"pole": -1.0})


def test_class_weights_weigh_the_mean():
    weighted = SegmentationLoss(LossConfig(), torch.tensor([1.0, 4.0]))
    loss = weighted(two_class_logits(), labels(0, 1, 255, 0))
    expected = -(math.log(0.9) + 4 * math.log(0.5) + math.log(0.6)) / 6
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("config", [LossConfig(), LossConfig(name="ohem"), LossConfig(name="focal"),
                                    LossConfig(dice=1.0, lovasz=1.0, tversky=1.0)])  # fmt: skip
def test_a_batch_without_labels_gives_a_zero_that_can_be_derived(config):
    logits = two_class_logits().requires_grad_()
    loss = SegmentationLoss(config)(logits, labels(255, 255, 255, 255))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_ohem_counts_pixels_below_the_threshold():
    # true-class probabilities .9 .5 .2 and, with label 1, 1 − .6 = .4
    loss = ohem_cross_entropy(
        two_class_logits(), labels(0, 0, 0, 1).long(), threshold=0.45, keep=0.0
    )
    assert loss.item() == pytest.approx(-(math.log(0.2) + math.log(0.4)) / 2, rel=1e-6)


def test_ohem_keeps_the_hardest_share():
    loss = ohem_cross_entropy(
        two_class_logits(), labels(0, 0, 255, 0).long(), threshold=0.01, keep=0.67
    )
    assert loss.item() == pytest.approx(-(math.log(0.5) + math.log(0.6)) / 2, rel=1e-6)


def test_region_terms_are_added_with_their_weights():
    logits, target = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5))
    target[0, 0] = 255

    def value(**terms):
        return SegmentationLoss(LossConfig(**terms))(logits, target).item()

    plain = value()
    for term in ("dice", "lovasz"):
        once, thrice = value(**{term: 1.0}) - plain, value(**{term: 3.0}) - plain
        assert once > 0
        assert thrice == pytest.approx(3 * once, rel=1e-5)


def test_region_terms_can_look_at_every_third_pixel():
    logits, target = torch.randn(2, 3, 7, 8), torch.randint(0, 3, (2, 7, 8))
    cross_entropy = SegmentationLoss(LossConfig())

    def region_term(stride, logits, target):
        loss = SegmentationLoss(LossConfig(lovasz=1.0, region_stride=stride))
        return (loss(logits, target) - cross_entropy(logits, target)).item()

    every_third = region_term(1, logits[:, :, ::3, ::3], target[:, ::3, ::3])
    assert region_term(3, logits, target) == pytest.approx(every_third, rel=1e-4)


@pytest.mark.parametrize("name", ["ce", "ohem"])
def test_all_terms_can_look_at_every_second_pixel(name):
    logits, target = torch.randn(2, 3, 7, 8), torch.randint(0, 3, (2, 7, 8))
    terms = {"name": name, "lovasz": 1.0, "dice": 0.5, "region_stride": 2}
    second = SegmentationLoss(LossConfig(stride=2, **terms))
    every = SegmentationLoss(LossConfig(**terms))
    expected = every(logits[:, :, ::2, ::2], target[:, ::2, ::2])
    assert second(logits, target).item() == pytest.approx(expected.item())


def test_distillation_is_zero_for_equals_and_right_by_hand():
    student, teacher = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2)
    target = torch.zeros(1, 2, 2, dtype=torch.long)
    target[0, 0, 0] = 255
    assert distillation_loss(student, student, target, 4.0).item() == pytest.approx(0, abs=1e-6)
    p = (teacher / 4).softmax(1)
    q = (student / 4).softmax(1)
    divergence = (p * (p / q).log()).sum(1)[0]
    expected = 16 * (divergence.sum() - divergence[0, 0]) / 3
    assert distillation_loss(student, teacher, target, 4.0).item() == pytest.approx(
        expected.item(), rel=1e-4
    )


def test_median_frequency_by_hand():
    # frequencies .5, .1, .2 and a class that never occurs: the median is .2
    weights = median_frequency_weights(
        torch.tensor([500, 10, 40, 0]), torch.tensor([1000, 100, 200, 0])
    )
    assert weights.tolist() == pytest.approx([0.4, 2.0, 1.0, 0.0])


def test_log_frequency_by_hand():
    # nine tenths of the pixels, a tenth, none
    weights = log_frequency_weights(torch.tensor([900, 100, 0]))
    assert weights.tolist() == pytest.approx(
        [1 / math.log(0.92 + 1), 1 / math.log(1.12), 1 / math.log(1.02)], rel=1e-6
    )
