"""Ways to run a network from an image's bytes to its class map, all to be timed alike.

A candidate resizes the image as its network wants it, runs the network, and makes the class map at
the image's size. 1-bit networks run through the public `Predictor`; full-precision twins by torch,
and in 8 bits by OpenVINO and ONNX Runtime, whose logits binseg upsamples (its fused operator is
faster than theirs).
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.evaluation.protocols import segment
from binseg.evaluation.upsample import upsampled_argmax
from binseg.nn.segmenter import Segmenter
from binseg.predictor import Predictor
from binseg.runtime.library import Network

Segment = Callable[..., np.ndarray]
"""An image, uint8 (H, W, 3), to its class map, uint8 (H, W)."""
Kind = Literal["1-bit", "int8", "bf16", "fp16", "fp32"]

OPENVINO, ONNX_RUNTIME = "int8 OpenVINO", "int8 ONNX Runtime"
_LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Candidate:
    """One way to run a network.

    Attributes:
        kind: arithmetic of its convolutions.
        segment: runs it.
    """

    kind: Kind
    segment: Segment


def packed_candidates(
    name: str, file: Path, threads: int, device: str = "cpu"
) -> dict[str, Candidate]:
    """A packed file by `Predictor`; on the CPU also by libbinseg alone, without what Python adds.

    Args:
        name: of the first candidate.
        file: a packed model file.
        threads: that work on an image, on the CPU.
        device: "cpu" or "cuda".
    """
    predictor = Predictor(file, device=device, threads=threads)
    found = {name: Candidate("1-bit", lambda image: predictor(image).class_map)}
    if predictor.packed is not None and predictor.packed.native is not None:
        found[f"{name}, libbinseg alone"] = Candidate("1-bit", predictor.packed.native.segment)
    return found


def torch_candidates(
    network: Segmenter, preprocessing: Preprocessing, device: str = "cpu"
) -> dict[str, Candidate]:
    """A trained network by torch in fp32, and in the 16-bit floats that the device is fast in.

    Args:
        network: in eval mode; it is copied.
        preprocessing: how it sees images.
        device: "cpu" or "cuda".
    """
    ways: dict[str, tuple[Kind, torch.dtype]] = {
        "fp32 torch NCHW": ("fp32", torch.float32),
        "fp32 torch channels_last": ("fp32", torch.float32),
    }
    if device != "cpu":
        ways["fp16 torch channels_last"] = ("fp16", torch.float16)
    if device != "cpu" or has_bf16():
        ways["bf16 torch channels_last"] = ("bf16", torch.bfloat16)
    found = {}
    for name, (kind, dtype) in ways.items():
        layout = _LAYOUTS[name.rpartition(" ")[2]]
        # a copy of its own: to() would change the weights that the ways share
        own = deepcopy(network).to(torch.device(device), dtype).to(memory_format=layout)
        found[name] = Candidate(kind, _by_torch(own, preprocessing, dtype, layout, device))
    return found


def _by_torch(
    network: Segmenter,
    preprocessing: Preprocessing,
    dtype: torch.dtype,
    layout: torch.memory_format,
    device: str,
) -> Segment:
    class Cast(nn.Module):
        """Takes and gives float32."""

        def scores(self, x: torch.Tensor) -> torch.Tensor:
            return network.scores(x.to(dtype).contiguous(memory_format=layout)).float()

        forward = scores

    cast = Cast()
    return lambda image: segment(cast, image, preprocessing, device=device)


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16; without, torch is slower in it than in fp32."""
    # torch has no public name for this question
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


@dataclass(frozen=True)
class Int8Twin:
    """A full-precision network in 8 bits, ready for the runtimes that are installed.

    Attributes:
        preprocessing: how the network sees images.
        models: name of the runtime's candidate → its model.
        bytes: name → bytes of the model's file.
        notes: why a runtime is missing.
    """

    preprocessing: Preprocessing
    models: dict[str, Any]
    bytes: dict[str, int]
    notes: tuple[str, ...]

    def candidates(
        self,
        threads: int,
        size: tuple[int, int] | None = None,
        upsampler: Network | None = None,
    ) -> dict[str, Candidate]:
        """Each runtime's network; the first is the faster runtime's.

        Args:
            threads: that work on an image.
            size: (height, width) of all images, where they are all alike: such networks are faster.
            upsampler: any packed network, whose fused operator then makes the class map from the
                logits; else torch does, which is slower.

        Returns:
            Name → candidate, whose `segment` takes the class map's size, too.
        """
        seen = None if size is None else self.preprocessing.target_size(*size)
        return {
            name: Candidate(
                "int8", _by_runtime(name, model, self.preprocessing, threads, seen, upsampler)
            )
            for name, model in self.models.items()
        }


def int8_twin(
    network: Segmenter,
    labels: LabelTable,
    preprocessing: Preprocessing,
    images: Iterable[np.ndarray],
    folder: Path,
    *,
    all_runtimes: bool = True,
) -> Int8Twin:
    """Quantize a full-precision network for the runtimes that are installed.

    Args:
        network: in eval mode.
        labels, preprocessing: for the files.
        images: uint8 (H, W, 3), to measure the activations' ranges on.
        folder: for the files.
        all_runtimes: make it for each of them; else for the fastest alone, and the next only where
            that is missing.
    """
    from binseg.export.onnx_file import quantize_onnx, write_onnx
    from binseg.export.openvino_file import quantized, write_openvino

    seen = [preprocessing.resize(image) for image in images]
    float_file = folder / "twin.onnx"
    models: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    notes: list[str] = []
    try:
        write_onnx(float_file, network, labels, preprocessing, upsampled=False)
    except BinsegError as error:
        return Int8Twin(preprocessing, {}, {}, (f"int8: not measured ({error})",))
    for name in (OPENVINO, ONNX_RUNTIME):
        if models and not all_runtimes:
            break
        try:
            if name == OPENVINO:
                models[name] = quantized(float_file, seen)
                write_openvino(folder / "twin_int8.xml", models[name])
                sizes[name] = (folder / "twin_int8.bin").stat().st_size
            else:
                models[name] = folder / "twin_int8.onnx"
                quantize_onnx(float_file, models[name], seen)
                sizes[name] = models[name].stat().st_size
        except BinsegError as error:
            models.pop(name, None)
            notes.append(f"{name}: not measured ({error})")
    if models and not all_runtimes:
        notes.clear()  # one is all that was asked for
    return Int8Twin(preprocessing, models, sizes, tuple(notes))


def _by_runtime(
    name: str,
    model: Any,
    preprocessing: Preprocessing,
    threads: int,
    size: tuple[int, int] | None,
    upsampler: Network | None,
) -> Segment:
    scores: Callable[[np.ndarray], np.ndarray]
    if name == OPENVINO:
        from binseg.export.openvino_file import compiled

        scores = compiled(model, threads, size)
    else:
        from binseg.export.onnx_file import INPUT, as_input, session

        opened = session(model, threads)

        def scores(image: np.ndarray) -> np.ndarray:
            return np.asarray(opened.run(None, {INPUT: as_input([image])})[0][0])

    def run(image: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        found = scores(preprocessing.resize(image))
        size = size or (image.shape[0], image.shape[1])
        if upsampler is not None:
            return upsampler.upsample_argmax(found.transpose(1, 2, 0), size)
        return upsampled_argmax(torch.from_numpy(found), size)

    return run
