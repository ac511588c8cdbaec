"""Losses over logits (N, C, H, W) and train ids (N, H, W), with label 255 left out."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.data.labels import IGNORE
from binseg.errors import BinsegError, unknown_name
from binseg.training.config import LossConfig

_NOTHING_LABELLED = "the training split has no labelled pixel; see `binseg data check`"


class SegmentationLoss(nn.Module):
    """The pixel-wise term plus the weighted region terms of a `LossConfig`.

    Args:
        config: which terms.
        class_weights: float32 (C,), or None.

    Shapes:
        logits: (N, C, H, W), any floating dtype; computed in float32.
        labels: integer (N, H, W), 0..C−1 or 255.
        returns a scalar; 0 with a gradient of 0 if every pixel is 255.
    """

    class_weights: Tensor | None

    def __init__(self, config: LossConfig, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.regions = nn.ModuleList()
        self.region_weights: list[float] = []
        self.focal: nn.Module | None = None
        if config.dice or config.lovasz or config.tversky or config.name == "focal":
            # smp takes seconds to import and not every machine that trains has it
            from segmentation_models_pytorch import losses

            if config.dice:
                self.regions.append(losses.DiceLoss("multiclass", ignore_index=IGNORE))
                self.region_weights.append(config.dice)
            if config.tversky:
                alpha, beta = config.tversky_alpha, config.tversky_beta
                self.regions.append(
                    losses.TverskyLoss("multiclass", ignore_index=IGNORE, alpha=alpha, beta=beta)
                )
                self.region_weights.append(config.tversky)
            if config.name == "focal":
                gamma = config.focal_gamma
                self.focal = losses.FocalLoss("binary", gamma=gamma, ignore_index=IGNORE)
            if config.lovasz:
                self.regions.append(losses.LovaszLoss("multiclass", ignore_index=IGNORE))
                self.region_weights.append(config.lovasz)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits, labels = _every(self.config.stride, logits, labels)
        logits, labels = logits.float(), labels.long()
        if self.config.name == "ohem":
            loss = ohem_cross_entropy(
                logits,
                labels,
                threshold=self.config.ohem_threshold,
                keep=self.config.ohem_keep,
                class_weights=self.class_weights,
            )
        elif self.focal is not None:
            loss = focal_loss(self.focal, logits, labels, self.class_weights)
        else:
            loss = cross_entropy(logits, labels, self.class_weights)
        logits, labels = _every(self.config.region_stride, logits, labels)
        if self.regions and bool((labels != IGNORE).any()):
            for weight, region in zip(self.region_weights, self.regions, strict=True):
                loss = loss + weight * region(logits, labels)
        return loss


def _every(stride: int, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return logits[..., ::stride, ::stride], labels[..., ::stride, ::stride]


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over labelled pixels, weighted by class; 0 if there are none.

    `torch.nn.functional.cross_entropy` gives nan for a batch without a labelled pixel; this one
    needs no question to the device to avoid it.

    Args:
        logits: float32 (N, C, H, W).
        labels: int64 (N, H, W), 0..C−1 or 255.
        class_weights: float32 (C,), or None.
    """
    total = F.cross_entropy(logits, labels, class_weights, ignore_index=IGNORE, reduction="sum")
    counted = labels != IGNORE
    if class_weights is None:
        return total / counted.sum().clamp(min=1)
    weight = (class_weights[labels.where(counted, 0)] * counted).sum()
    return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)


def focal_loss(
    binary: nn.Module, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Mean over the classes of the focal loss of each against the rest, weighted by class.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection" (arXiv 1708.02002), equation 4,
    with a sigmoid for each class as in section 3.3.

    Args:
        binary: segmentation-models-pytorch's FocalLoss of mode "binary", which leaves 255 out. (Its
            mode "multiclass" knows weights only from 0.6 on.)
        logits: float32 (N, C, H, W).
        labels: int64 (N, H, W), 0..C−1 or 255; without a labelled pixel the result is 0.
        class_weights: float32 (C,), or None.
    """
    counted = labels != IGNORE
    if not bool(counted.any()):
        return (logits * 0).sum()
    terms = [
        binary(logits[:, one], torch.where(counted, (labels == one).long(), IGNORE))
        for one in range(logits.shape[1])
    ]
    weights = logits.new_ones(len(terms)) if class_weights is None else class_weights
    return (torch.stack(terms) * weights).sum() / weights.sum()


def named_weights(weights: Mapping[str, float], names: Sequence[str]) -> Tensor:
    """Weights given by hand; classes that are not named have 1.

    Args:
        weights: by class name.
        names: of the C classes.

    Returns:
        float32 (C,).

    Raises:
        BinsegError: a name that no class has, or no class with a weight above 0.
    """
    for name in weights:
        if name not in names:
            raise unknown_name("class in loss.class_weights", name, names)
    found = torch.tensor([float(weights.get(name, 1)) for name in names])
    if not bool(found.any()):
        raise BinsegError("loss.class_weights: all are 0; give some class a weight above 0")
    return found


def ohem_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    threshold: float,
    keep: float,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy over hard pixels (online hard example mining).

    A pixel counts if the probability of its true class is below `threshold`; if those are fewer
    than the share `keep` of all labelled pixels, the hardest ones make up that share.
    Source: Shrivastava et al. 2016; for segmentation Wu et al. 2016, "High-performance Semantic
    Segmentation Using Very Deep Fully Convolutional Networks", section 3.3.

    Args:
        logits: float32 (N, C, H, W).
        labels: int64 (N, H, W), 0..C−1 or 255; without a labelled pixel the result is 0.
        threshold: probability, 0 to 1.
        keep: share, 0 to 1.
        class_weights: float32 (C,), or None; they weigh the mean, not the choice of pixels.
    """
    counted = labels.flatten() != IGNORE
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    losses = losses.flatten()[counted]
    if not len(losses):
        return (logits * 0).sum()
    hard = losses > -torch.log(torch.tensor(threshold, device=losses.device))
    minimum = max(1, int(keep * losses.numel()))
    if int(hard.sum()) < minimum:
        hard = losses >= losses.topk(minimum).values[-1]
    if class_weights is None:
        return losses[hard].mean()
    weights = class_weights[labels.flatten()[counted][hard]]
    return (losses[hard] * weights).sum() / weights.sum()


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """T² · mean over labelled pixels of KL(teacher_T ‖ student_T).

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2;
    pixel-wise as in Liu et al. 2019, "Structured Knowledge Distillation", section 3.1.

    Args:
        student, teacher: logits (N, C, H, W).
        labels: (N, H, W); pixels with 255 do not count.
        temperature: T > 0.
    """
    log_student = F.log_softmax(student.float() / temperature, dim=1)
    log_teacher = F.log_softmax(teacher.float() / temperature, dim=1)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1)
    counted = labels != IGNORE
    return temperature**2 * (divergence * counted).sum() / counted.sum().clamp(min=1)


def log_frequency_weights(pixels: Tensor) -> Tensor:
    """weight(c) = 1 / ln(1.02 + freq(c)), freq(c) = pixels of c / all labelled pixels.

    Source: Paszke et al. 2016, "ENet: A Deep Neural Network Architecture for Real-Time Semantic
    Segmentation", section 5.1.

    Args:
        pixels: int64 (C,), labelled pixels of each class.

    Returns:
        float32 (C,).

    Raises:
        BinsegError: no pixel is labelled.
    """
    if not int(pixels.sum()):
        raise BinsegError(_NOTHING_LABELLED)
    return (1 / torch.log(1.02 + pixels.double() / pixels.sum())).float()


def median_frequency_weights(pixels: Tensor, pixels_where_present: Tensor) -> Tensor:
    """weight(c) = median(freq) / freq(c), freq(c) = pixels of c / pixels of images that have c.

    Source: Eigen and Fergus 2015, "Predicting Depth, Surface Normals and Semantic Labels",
    section 6.3.2. A class that never occurs gets weight 0: it has no pixel to weigh.

    Args:
        pixels: int64 (C,), labelled pixels of each class.
        pixels_where_present: int64 (C,), labelled pixels of the images in which c occurs.

    Returns:
        float32 (C,).

    Raises:
        BinsegError: no pixel is labelled.
    """
    present = pixels > 0
    if not bool(present.any()):
        raise BinsegError(_NOTHING_LABELLED)
    frequency = pixels[present].double() / pixels_where_present[present].double()
    weights = torch.zeros(len(pixels), dtype=torch.float32)
    weights[present] = (frequency.quantile(0.5) / frequency).float()
    return weights
