"""Losses of classification: soft targets, mixup and distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """(1 − ε)·one-hot + ε / C, float32 (N, C).

    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7.

    Args:
        labels: int64 (N,).
        smoothing: ε.
    """
    one_hot = F.one_hot(labels, num_classes).float()
    return one_hot * (1 - smoothing) + smoothing / num_classes


def mix(images: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """μ·x + (1 − μ)·x_π and the same of the targets, π a random order, μ ~ Beta(α, α).

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", section 2. Drawn from
    torch's generator on the CPU, so that every device mixes alike.

    Args:
        images: float (N, 3, H, W).
        targets: float (N, C).
        alpha: α; with 0 nothing is mixed.
    """
    if not alpha:
        return images, targets
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(images)).to(images.device)
    mixed = torch.lerp(images[order], images, share)
    return mixed, torch.lerp(targets[order], targets, share)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over N of −Σ_c t_c·log softmax(logits)_c.

    Args:
        logits, targets: (N, C).
    """
    return -(targets * F.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · mean over N of KL(teacher_T ‖ student_T).

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.

    Args:
        student, teacher: logits (N, C).
        temperature: T > 0.
    """
    divergence = F.kl_div(
        F.log_softmax(student.float() / temperature, dim=1),
        F.log_softmax(teacher.float() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * divergence


def topk_hits(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """How many of the N labels are among the k highest of their C logits, int64 scalar.

    With fewer than k classes, all of them count.
    """
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(dim=1).sum()


def feature_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference from the teacher's map with each channel standardized over the batch.

    Without the standardization the few channels of large numbers would be all that is learnt.

    Args:
        student: (N, C, H, W), after its regressor.
        teacher: (N, C, H, W).
    """
    target = F.batch_norm(teacher.float(), None, None, training=True)
    return F.mse_loss(student.float(), target)
