"""The full-precision twin for ONNX Runtime, in fp32 and in int8 by static quantization."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from binseg.nn.segmenter import BackboneSegmenter

_OPSET = 18
_INPUT = "picture"


class ScoresOnly(nn.Module):
    """A network without its upsampling."""

    def __init__(self, network: BackboneSegmenter) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.head

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to logits on the head's own grid."""
        return self.head(self.backbone(x))


class _ScaleShift(nn.Module):
    """A BatchNorm as a product and a sum: the quantizer has 8-bit operators for those two, while a
    BatchNorm would stay in fp32 between changes of type and layout."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias.detach() - norm.running_mean * scale
        self.register_buffer("scale", scale.view(1, -1, 1, 1))
        self.register_buffer("shift", shift.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def write_onnx(twin: BackboneSegmenter, picture: Tensor, path: Path) -> None:
    """Write the network up to its low-resolution logits, for pictures of one size.

    Raises:
        ImportError: onnx or onnxscript is missing.
    """
    network = ScoresOnly(deepcopy(twin)).eval()
    _replace_norms(network)
    with _quiet():
        torch.onnx.export(
            network,
            (picture,),
            path,
            dynamo=True,
            external_data=False,
            opset_version=_OPSET,
            input_names=[_INPUT],
            output_names=["scores"],
        )


def write_int8(fp32: Path, pictures: Sequence[Tensor], path: Path) -> None:
    """Quantize an ONNX file: weights int8 per channel, activations uint8 per map, QDQ format.

    Args:
        fp32: from `write_onnx`.
        pictures: to measure the activations' ranges on.
        path: the file to write.

    Raises:
        ImportError: onnx or onnxruntime is missing.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self._rest = iter(pictures)

        def get_next(self) -> dict[str, Any] | None:
            picture = next(self._rest, None)
            return None if picture is None else {_INPUT: picture.numpy()}

    prepared = path.with_name(f"{path.stem}_prepared.onnx")
    with _quiet():
        quant_pre_process(fp32, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            Pictures(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    prepared.unlink()


class OnnxScores:
    """Pictures to low-resolution logits by a session of ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, picture: Tensor) -> Tensor:
        (scores,) = self._session.run(None, {_INPUT: picture.numpy()})
        return torch.from_numpy(scores)


def _replace_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _ScaleShift(child))
        else:
            _replace_norms(child)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both packages tell of every step."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
