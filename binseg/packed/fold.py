"""`pack`: a trained network to a packed one."""

from collections.abc import Iterable
from typing import get_args, overload

from torch import Tensor, nn

from binseg.errors import BinsegError, unknown_name
from binseg.nn.activations import BinaryActivation
from binseg.nn.classifier import Classifier
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import BackboneSegmenter, Segmenter, SmpSegmenter
from binseg.packed.calibration import activation_ranges
from binseg.packed.classifier import PackedClassifier
from binseg.packed.folding import Folding, Rest
from binseg.packed.modules import PackedSegmenter, require_bits


@overload
def pack(
    model: Segmenter, *, rest: Rest = "fp32", calibration: Iterable[Tensor] | None = None
) -> PackedSegmenter: ...


@overload
def pack(
    model: nn.Module, *, rest: Rest = "fp32", calibration: Iterable[Tensor] | None = None
) -> PackedSegmenter | PackedClassifier: ...


def pack(
    model: nn.Module, *, rest: Rest = "fp32", calibration: Iterable[Tensor] | None = None
) -> PackedSegmenter | PackedClassifier:
    """Fold a trained network into bits, integer thresholds and constants.

    Weights become bits. Scale, nonlinearity and BatchNorm become integers to compare with where no
    shortcut stands between two binary convolutions, found by trying all sums in the trained layers
    themselves; elsewhere three numbers a channel. Gates and λ become constants, BatchNorms of real
    convolutions go into their weights, dropout goes away.

    Args:
        model: a trained network with 1-bit layers, for segmentation or classification; it stays as
            it is.
        rest: arithmetic of the stem, the head's first convolution and the real 1×1 convolutions of
            shortcuts: "fp32"; "bf16"; or "int8", with weights scaled per channel and activations
            per map. The layer that gives the class scores stays float32, as do decoders of
            segmentation-models-pytorch.
        calibration: for int8: normalised pictures, float32 (N, 3, H, W), like those that the
            network will see; a few are enough.

    Returns:
        The packed network, on the CPU: a `PackedClassifier` for a classifier.

    Raises:
        BinsegError: nothing in the network is 1 bit; it is in the middle of a two-step training;
            its family cannot be packed; its weights hold nan; int8 without calibration pictures.
    """
    if rest not in get_args(Rest):
        raise unknown_name("rest", rest, get_args(Rest))
    network = _packable(model)
    names = {module: name for name, module in network.named_modules()}
    ranges = {}
    if rest == "int8":
        if calibration is None:
            raise BinsegError("int8 needs pictures to calibrate on; give some, or use bf16")
        ranges = activation_ranges(network, calibration)
    folding = Folding(rest, ranges, names)
    if isinstance(network, Classifier):
        return PackedClassifier(network, folding)
    return PackedSegmenter(network, folding)


def _packable(model: nn.Module) -> BackboneSegmenter | SmpSegmenter | Classifier:
    if isinstance(model, PackedSegmenter | PackedClassifier):
        raise BinsegError("the network is packed already")
    require_bits(model)
    if not isinstance(model, BackboneSegmenter | SmpSegmenter | Classifier):
        raise BinsegError(
            f"a {type(model).__name__} cannot be packed; create_model and create_classifier make "
            "networks that can"
        )
    for name, module in model.named_modules():
        real = isinstance(module, BinaryConv2d) and module.weight_mode != "binary"
        if real or (isinstance(module, BinaryActivation) and module.mode != "sign"):
            raise BinsegError(
                f"{name} is not binary yet: the network is in the middle of a two-step training; "
                "finish it first"
            )
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise BinsegError(f"{name} holds nan or inf: damaged weights or a diverged training")
    return model
