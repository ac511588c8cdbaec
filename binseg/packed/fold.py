"""`pack`: a trained network to a packed one."""

from collections.abc import Iterable
from typing import get_args

from torch import Tensor, nn

from binseg.errors import BinsegError, unknown_name
from binseg.nn.activations import BinaryActivation
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import BackboneSegmenter
from binseg.packed.calibration import activation_ranges
from binseg.packed.folding import Folding, Rest
from binseg.packed.modules import PackedSegmenter, require_bits


def pack(
    model: nn.Module, *, rest: Rest = "fp32", calibration: Iterable[Tensor] | None = None
) -> PackedSegmenter:
    """Fold a trained network into bits, integer thresholds and constants.

    Weights become bits. Scale, nonlinearity and BatchNorm become integers to compare with where no
    shortcut stands between two binary convolutions, found by trying all sums in the trained layers
    themselves; elsewhere three numbers a channel. Gates and λ become constants, BatchNorms of real
    convolutions go into their weights, dropout goes away.

    Args:
        model: a trained network with 1-bit layers; it stays as it is.
        rest: arithmetic of the stem, the head's first convolution and the real 1×1 convolutions of
            shortcuts: "fp32"; "bf16"; or "int8", with weights scaled per channel and activations
            per map. The 1×1 convolutions to class scores stay float32.
        calibration: for int8: normalised pictures, float32 (N, 3, H, W), like those that the
            network will see; a few are enough.

    Returns:
        The packed network, on the CPU.

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
    return PackedSegmenter(network, Folding(rest, ranges, names))


def _packable(model: nn.Module) -> BackboneSegmenter:
    if isinstance(model, PackedSegmenter):
        raise BinsegError("the network is packed already")
    require_bits(model)
    if not isinstance(model, BackboneSegmenter):
        raise BinsegError(f"a {type(model).__name__} cannot be packed; create_model makes networks")
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
