"""`pack`: a trained network to a packed one."""

import warnings
from collections.abc import Iterable
from typing import get_args, overload

from torch import Tensor, nn

from binseg.compiler.calibration import activation_ranges, evaluating
from binseg.compiler.compile import compile_network
from binseg.compiler.packed import PackedClassifier, PackedSegmenter
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError, unknown_name
from binseg.nn.activations import BinaryActivation
from binseg.nn.classifier import Classifier
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import Segmenter
from binseg.program.file import OtherLayers


@overload
def pack(
    model: Segmenter,
    *,
    other_layers: OtherLayers = "fp32",
    calibration: Iterable[Tensor] | None = None,
    preprocessing: Preprocessing | None = None,
    bf16_maps: bool = False,
    rest: OtherLayers | None = None,
) -> PackedSegmenter: ...


@overload
def pack(
    model: nn.Module,
    *,
    other_layers: OtherLayers = "fp32",
    calibration: Iterable[Tensor] | None = None,
    preprocessing: Preprocessing | None = None,
    bf16_maps: bool = False,
    rest: OtherLayers | None = None,
) -> PackedSegmenter | PackedClassifier: ...


def pack(
    model: nn.Module,
    *,
    other_layers: OtherLayers = "fp32",
    calibration: Iterable[Tensor] | None = None,
    preprocessing: Preprocessing | None = None,
    bf16_maps: bool = False,
    rest: OtherLayers | None = None,
) -> PackedSegmenter | PackedClassifier:
    """Compile a trained network into bits, integer thresholds and constants.

    Weights become bits. Scale, nonlinearity and BatchNorm become integers to compare with where no
    shortcut stands between two binary convolutions, found by trying all sums in the trained layers
    themselves; elsewhere three numbers a channel. Gates and λ become constants, BatchNorms of real
    convolutions go into their weights, dropout goes away.

    Args:
        model: a trained network with 1-bit layers, from normalised float32 (N, 3, H, W) to logits
            (N, classes, H, W), or (N, classes) for a `Classifier`. It may be of any make, as long
            as its layers are ones that the compiler knows. It stays as it is.
        other_layers: arithmetic of real convolutions: "fp32"; "bf16", for their weights; or
            "int8", with weights scaled per channel and activations per map. What gives the class
            scores stays float32.
        calibration: for int8: normalised images, float32 (N, 3, H, W), like those that the network
            will see; a few are enough.
        preprocessing: how images are normalised for `model` (default: by ImageNet's mean and
            deviation); a packed network reads the image's bytes.
        bf16_maps: store the real maps between operators in bfloat16: half the memory, and a class
            map that differs a little where numbers lie next to 0.
        rest: the old name of `other_layers`.

    Returns:
        The packed network: a `PackedClassifier` for a `Classifier`.

    Raises:
        BinsegError: nothing in the network is 1 bit; it is in the middle of a two-step training;
            it has a layer that the compiler does not know, which the message names; its weights
            hold nan; int8 without calibration images.
    """
    if rest is not None:
        warnings.warn(
            "`rest` is now called `other_layers`; the old name goes with the next release",
            FutureWarning,
            stacklevel=2,
        )
        other_layers = rest
    if other_layers not in get_args(OtherLayers):
        raise unknown_name("other_layers", other_layers, get_args(OtherLayers))
    _check_packable(model)
    ranges = {}
    if other_layers == "int8":
        if calibration is None:
            raise BinsegError("int8 needs images to calibrate on; give some, or use bf16")
        ranges = activation_ranges(model, calibration)
    preprocessing = preprocessing or Preprocessing()
    with evaluating(model):
        program = compile_network(
            model,
            preprocessing,
            other_layers=other_layers,
            ranges=ranges,
            bf16_maps=bf16_maps,
        )
    architecture = getattr(model, "architecture", None)
    kind = PackedClassifier if isinstance(model, Classifier) else PackedSegmenter
    return kind(program, preprocessing, other_layers=other_layers, architecture=architecture)


def require_bits(network: nn.Module) -> None:
    """Raise BinsegError if no layer of `network` is binary."""
    if not any(isinstance(module, BinaryConv2d) for module in network.modules()):
        raise BinsegError(
            "nothing in this network is 1 bit, so there is nothing to pack; pack one that was "
            'trained with precision "binary"'
        )


def _check_packable(model: nn.Module) -> None:
    if isinstance(model, PackedSegmenter | PackedClassifier):
        raise BinsegError("the network is packed already")
    require_bits(model)
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
