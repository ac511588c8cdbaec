"""Full-precision networks in 8 bits for OpenVINO, quantized by NNCF."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from binseg.atomic import atomic_path
from binseg.errors import BinsegError
from binseg.export.onnx_file import INPUT, quiet

ImageScores = Callable[[np.ndarray], np.ndarray]
"""uint8 (H, W, 3) as the network sees it → float32 (C, h, w)."""


def quantized(onnx: Path, images: Sequence[np.ndarray]) -> Any:
    """An ONNX file's network in 8 bits.

    Post-training quantization as NNCF does it by default: weights symmetric per channel,
    activations per map, fast bias correction, no fine-tuning.

    Args:
        onnx: from `onnx_file.write_onnx`, of a full-precision network; takes RGB in [0, 255].
        images: uint8 (H, W, 3) as the network sees them, to measure the activations' ranges on.

    Returns:
        An `openvino.Model` that takes uint8 (N, H, W, 3).

    Raises:
        BinsegError: openvino or nncf is missing, or no image.
    """
    require_openvino()
    if not images:
        raise BinsegError("8 bits need images to calibrate on: give --calibration")
    with quiet():
        import nncf
        import openvino as ov
        from openvino.preprocess import PrePostProcessor

        steps = PrePostProcessor(ov.Core().read_model(onnx))
        steps.input(INPUT).tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        steps.input(INPUT).model().set_layout(ov.Layout("NCHW"))
        data = nncf.Dataset([image[None] for image in images])
        return nncf.quantize(steps.build(), data, subset_size=len(images))


def write_openvino(path: Path, model: Any) -> None:
    """Write a model as PATH.xml and PATH.bin.

    Raises:
        BinsegError: another suffix than .xml, or the files cannot be written.
    """
    import openvino as ov

    if path.suffix != ".xml":
        raise BinsegError(f"{path}: OpenVINO's files end in .xml (weights go beside it as .bin)")
    with atomic_path(path) as temporary:
        ov.save_model(model, temporary, compress_to_fp16=False)
        # the .xml does not name its .bin
        temporary.with_suffix(".bin").replace(path.with_suffix(".bin"))


def compiled(model: Any, threads: int, size: tuple[int, int] | None = None) -> ImageScores:
    """A model compiled for one image at a time on the CPU.

    Args:
        model: from `quantized`, or the path of an .xml.
        threads: of inference.
        size: (height, width) of all images; fixed sizes run faster.
    """
    import openvino as ov

    core = ov.Core()
    network = core.read_model(model) if isinstance(model, str | Path) else model.clone()
    if size is not None:
        network.reshape([1, *size, 3])
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    if "ONEDNN_MAX_CPU_ISA" in os.environ:
        # the plugin would ask for bfloat16 where the processor has it, whatever oneDNN is held to
        options["INFERENCE_PRECISION_HINT"] = "f32"
    request = core.compile_model(network, "CPU", options).create_infer_request()

    def scores(image: np.ndarray) -> np.ndarray:
        found = request.infer({0: image[None]}, share_inputs=True, share_outputs=True)
        return np.asarray(found[0])[0]

    return scores


def versions() -> dict[str, str]:
    """Versions of OpenVINO and NNCF, and what oneDNN is held to.

    Raises:
        BinsegError: one of them is missing.
    """
    require_openvino()
    with quiet():
        import nncf
        import openvino

    found = {"openvino": openvino.get_version().split("-")[0], "nncf": nncf.__version__}
    if limit := os.environ.get("ONEDNN_MAX_CPU_ISA"):
        found["oneDNN held to"] = limit
    return found


def require_openvino() -> None:
    """Raise BinsegError unless openvino and nncf are there."""
    with quiet():
        try:
            import nncf  # noqa: F401
            import openvino  # noqa: F401
        except ImportError as error:
            raise BinsegError(
                f"OpenVINO needs {error.name}: pip install 'binseg[openvino]'"
            ) from error
