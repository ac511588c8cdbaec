"""ONNX files of trained networks, in float32 and, of full-precision ones, in 8 bits."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from binseg.atomic import atomic_path
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.export.folded import Normalized, folded
from binseg.nn.segmenter import Segmenter

OPSET = 18
INPUT, OUTPUT = "image", "logits"
_EXAMPLE = (96, 128)


def write_onnx(
    path: Path,
    network: Segmenter,
    labels: LabelTable,
    preprocessing: Preprocessing,
    *,
    notes: dict[str, str] | None = None,
    upsampled: bool = True,
) -> None:
    """Write a float network as ONNX.

    The file's input `image` is float32 (N, 3, H, W), RGB in [0, 255], of any N, H and W; its output
    `logits` float32 (N, C, H, W). The metadata hold `labels` and `preprocessing` as JSON.

    Args:
        path: ends in .onnx; written whole or not at all.
        network: a trained network; packed ones have no float weights left.
        labels, preprocessing: the model file's.
        notes: more metadata, for example the terms of use.
        upsampled: give logits at the image's size; else on the head's own grid.

    Raises:
        BinsegError: onnx or onnxscript is missing, or the exporter cannot take the network.
    """
    require_onnx()
    import onnx

    module = Normalized(folded(network), preprocessing, upsampled=upsampled).eval()
    example = torch.zeros((2, 3, *_EXAMPLE))
    sizes = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height"),
        3: torch.export.Dim("width"),
    }
    buffer = io.BytesIO()
    try:
        with quiet(), torch.inference_mode():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=(dict.fromkeys(sizes, torch.export.Dim.AUTO),),
            )
            assert program is not None
            model = program.model_proto
    except Exception as error:  # the exporter raises whatever it likes
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:160]
        raise BinsegError(
            f"{path}: torch's ONNX exporter cannot take the network ({reason})"
        ) from error
    metadata = {
        "labels": json.dumps(labels.to_dict()),
        "preprocessing": json.dumps(preprocessing.to_dict()),
        **(notes or {}),
    }
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def quantize_onnx(source: Path, path: Path, images: Sequence[np.ndarray]) -> None:
    """An ONNX file in 8 bits: weights int8 per channel, activations uint8 per map, as QDQ.

    Args:
        source: from `write_onnx`, of a full-precision network.
        path: the file to write.
        images: uint8 (H, W, 3) as the network sees them, to measure the activations' ranges on.

    Raises:
        BinsegError: onnxruntime is missing, or no image.
    """
    require_onnx()
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not images:
        raise BinsegError("8 bits need images to calibrate on: give --calibration")

    class Images(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self._rest = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._rest, None)
            return None if image is None else {INPUT: as_input([image])}

    prepared = path.with_name(f".{path.stem}_prepared.onnx")
    try:
        with quiet(), atomic_path(path) as temporary:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                temporary,
                Images(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        prepared.unlink(missing_ok=True)


def as_input(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images of one size, uint8 (H, W, 3), as the files take them: float32 (N, 3, H, W)."""
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2), np.float32)


def session(path: Path, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU; 0 threads: as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def require_onnx() -> None:
    """Raise BinsegError unless everything that writes and runs ONNX files is there."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BinsegError(f"ONNX needs {error.name}: pip install 'binseg[export]'") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The packages behind this tell of every step."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
