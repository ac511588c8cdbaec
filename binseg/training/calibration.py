"""What is measured of a trained network without training it: BatchNorm's statistics, and biases of
the classes."""

from typing import NamedTuple

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from binseg.data.module import SegmentationData
from binseg.data.preprocess import network_input
from binseg.nn.segmenter import Segmenter
from binseg.training.batchnorm import reestimate_batchnorm
from binseg.training.class_biases import (
    ClassBiases,
    add_class_biases,
    fit_class_biases,
    pixel_scores,
)


class Calibration(NamedTuple):
    """What was done.

    Attributes:
        images: that it was measured on.
        norms: BatchNorms whose statistics are new.
        biases: that were added to the class scores; None if none were fitted.
    """

    images: int
    norms: int
    biases: ClassBiases | None


def calibrate(
    network: Segmenter, data: SegmentationData, *, statistics: bool = True, biases: bool = True
) -> Calibration:
    """Measure BatchNorm's statistics anew and fit class biases, on unaugmented training images.

    Statistics are measured as in a training. Biases are fitted on whole images, as the network will
    see them: on the centres of images, classes at the borders would count for nothing.

    Args:
        network: changed in place; left in eval mode.
        data: whose `calibration_batches` and `calibration_images` are shown.
        statistics: replace BatchNorm's statistics, see `reestimate_batchnorm`; a training has done
            so on its own data.
        biases: add what `fit_class_biases` finds to the class scores.

    Raises:
        BinsegError: a faulty file, no labelled pixel, or a network that no bias can be added to.
    """
    device = next(network.parameters()).device

    def prepare(images: torch.Tensor) -> torch.Tensor:
        return data.preprocessing.normalize(images.to(device))

    network.eval()
    norms = sum(isinstance(module, _BatchNorm) for module in network.modules())
    if statistics:
        shown = (batch["image"] for batch in data.calibration_batches())
        reestimate_batchnorm(network, shown, prepare)
    found = None
    if biases:
        found = fit_class_biases(*pixel_scores(network, data.calibration_images(), prepare))
        first = data.training[data.calibration_places[0]].image
        add_class_biases(network, found.biases, network_input(first, data.preprocessing).to(device))
    return Calibration(len(data.calibration_places), norms if statistics else 0, found)
