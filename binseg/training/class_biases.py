"""A number for each class, added to its scores, that makes mIoU higher.

A loss mostly counts pixels, and mIoU counts classes, so that scores which are best for the one are
not for the other. Adding to the logits after the training is the post-hoc logit adjustment of Menon
et al. 2021, "Long-tail learning via logit adjustment" (arXiv 2007.07314); there the numbers follow
from the classes' frequencies, here they are searched for on training images, one class after the
other.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from binseg.data.labels import IGNORE
from binseg.data.module import Batch
from binseg.errors import BinsegError
from binseg.evaluation.scores import confusion
from binseg.evaluation.upsample import refuse_nan

_SCORES_OF_IMAGE = 2**17
_CHANGES = (-1.0, -0.5, -0.25, -0.1, 0.1, 0.25, 0.5, 1.0)
_PASSES = 8
_LEAST_GAIN = 1e-4  # of mIoU; less is noise


class ClassBiases(NamedTuple):
    """Numbers to add to the class scores.

    Attributes:
        biases: float32 (C,), logits; their mean is 0.
        before, after: mIoU without and with them, of the pixels that they were fitted on.
    """

    biases: Tensor
    before: float
    after: float


@torch.inference_mode()
def pixel_scores(
    network: nn.Module, batches: Iterable[Batch], prepare: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The class scores of labelled pixels, spread evenly over each image.

    Args:
        network: in eval mode; from what `prepare` returns to logits (N, C, H, W).
        batches: images with their labels.
        prepare: from uint8 (N, 3, H, W) to the network's input on its device.

    Returns:
        float32 (P, C) logits and uint8 (P,) train ids, on the CPU; at most 131,072 numbers of an
        image.

    Raises:
        BinsegError: a score is nan.
    """
    scores, labels = [], []
    for batch in batches:
        for logits, truth in zip(network(prepare(batch["image"])), batch["label"], strict=True):
            refuse_nan(logits)
            places = (truth.flatten() != IGNORE).nonzero().flatten()
            count = max(1, _SCORES_OF_IMAGE // len(logits))
            places = places[:: -(-len(places) // count) or 1]
            scores.append(logits.flatten(1)[:, places.to(logits.device)].T.float().cpu())
            labels.append(truth.flatten()[places])
    return torch.cat(scores), torch.cat(labels)


def fit_class_biases(scores: Tensor, labels: Tensor) -> ClassBiases:
    """Find the biases that make mIoU high: coordinate ascent, from none at all.

    Classes without a pixel keep their bias and count nowhere.

    Args:
        scores: float32 (P, C) logits.
        labels: (P,) train ids, of any integer type.

    Raises:
        BinsegError: there is no labelled pixel.
    """
    if not len(labels):
        raise BinsegError("no image has a labelled pixel to fit class biases on")
    shifted, biases = scores.clone(), torch.zeros(scores.shape[1])
    before = best = _mean_iou(scores.argmax(1), labels, scores.shape[1])
    for _ in range(_PASSES):
        last = best
        for class_ in labels.unique().tolist():
            own = shifted[:, class_].clone()
            shifted[:, class_] = -torch.inf
            highest, rival = shifted.max(1)
            rival = rival.byte()  # bytes are counted faster
            found, change = max(
                (_mean_iou(torch.where(own + by > highest, class_, rival), labels, len(biases)), by)
                for by in _CHANGES
            )
            if found > best + _LEAST_GAIN:
                best = found
                biases[class_] += change
                own += change
            shifted[:, class_] = own
        if best == last:
            break
    return ClassBiases(biases - biases.mean(), before, best)


def _mean_iou(found: Tensor, labels: Tensor, classes: int) -> float:
    """Over the classes that are there."""
    matrix = confusion(found, labels, classes).double()
    right, truth = matrix.diagonal(), matrix.sum(1)
    return float((right / (truth + matrix.sum(0) - right))[truth > 0].mean())


@torch.inference_mode()
def add_class_biases(network: nn.Module, biases: Tensor, images: Tensor) -> None:
    """Add a number to each class's scores, in the network's own last layer.

    Args:
        network: in eval mode; from `images` to logits (N, C, H, W).
        biases: float32 (C,).
        images: an input to try it on.

    Raises:
        BinsegError: no layer of the network adds a number to each class; it is as it was.
    """
    biases = biases.to(images.device)
    wanted = network(images) + biases[:, None, None]
    for name, bias in reversed(list(network.named_parameters())):
        if name.rpartition(".")[2] != "bias" or bias.shape != biases.shape:
            continue
        before = bias.clone()
        bias.copy_(bias + biases)
        if torch.allclose(network(images), wanted, rtol=1e-3, atol=1e-3):
            return
        bias.copy_(before)
    raise BinsegError(
        "no layer of this network adds a number to each class's scores, so class biases have no "
        "place in it; leave them out with --no-biases"
    )
