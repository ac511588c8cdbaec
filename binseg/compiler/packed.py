"""Packed networks in torch: a program with the call of the trained network."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.nn.heads import resize_logits
from binseg.nn.segmenter import Segmenter
from binseg.program.check import check
from binseg.program.cuda.devices import TorchExecutor
from binseg.program.cuda.network import ProgramNetwork
from binseg.program.executor import Executor, create_executor
from binseg.program.file import OtherLayers
from binseg.program.program import Program


class _Packed(nn.Module):
    """What packed networks share. They run where their images lie: on the CPU by libbinseg, on as
    many threads as torch; on a CUDA GPU by kernels that are compiled on first use.

    Args:
        program: see docs/program.md.
        preprocessing: how images were normalised for the trained network.
        other_layers: arithmetic of the layers that are not binary: "fp32", "bf16" or "int8".

    Attributes:
        program, preprocessing, other_layers: as given.
        outputs: channels of the program's output.
    """

    def _set_up(
        self, program: Program, preprocessing: Preprocessing, other_layers: OtherLayers
    ) -> None:
        self.program = program
        self.preprocessing = preprocessing
        self.other_layers = other_layers
        self.outputs = check(program)[program.output].channels
        self.executor: Executor = create_executor(program)
        self._on_gpus: dict[torch.device, TorchExecutor] = {}
        self.eval()

    def run_on(self, backend: str) -> None:
        """On the CPU, run on another backend, see `binseg.program.executor.backends`.

        Raises:
            BinsegError: there is no such backend.
        """
        self.executor = create_executor(self.program, backend)

    def make_ready(self, device: torch.device) -> None:
        """Compile and load, now, what the first image on a device would wait for.

        Raises:
            BinsegError: packed networks do not run on it; the message says why.
        """
        if device.type != "cpu":
            self._on_gpu(device)

    def _on_gpu(self, device: torch.device) -> TorchExecutor:
        if device not in self._on_gpus:
            self._on_gpus[device] = TorchExecutor(self.program, device)
        return self._on_gpus[device]

    def as_torch(self) -> nn.Module:
        """The network over operators of torch, for `torch.export` and `torch.compile`.

        Its call is this one's but for checks; on the CPU it is slow, and for trying things out.
        """
        return _Traceable(self)

    def images(self, x: Tensor) -> list[np.ndarray]:
        """A batch as executors take it: uint8 (H, W, 3) each; see `_images`."""
        return list(self._images(x).cpu().numpy())

    def _images(self, x: Tensor) -> Tensor:
        """A batch as the program takes it: uint8 (N, H, W, 3).

        Args:
            x: uint8 (N, 3, H, W), or float32, normalised, which is brought back to bytes.

        Raises:
            BinsegError: something else.
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.dtype not in (torch.float32, torch.uint8):
            raise BinsegError(
                "a packed network takes images (N, 3, H, W), uint8 or float32 and normalised, not "
                f"{x.dtype} {tuple(x.shape)}"
            )
        if x.dtype == torch.float32:
            x = self.preprocessing.to_bytes(x)
        return x.detach().permute(0, 2, 3, 1).contiguous()

    def _scores(self, x: Tensor) -> Tensor:
        """The program's output, float32 (N, h, w, C), on the device of `x`."""
        images = self._images(x)
        if images.device.type != "cpu":
            return self._on_gpu(images.device).batch_scores(images)
        self.executor.threads = torch.get_num_threads()
        found = [torch.from_numpy(self.executor.scores(image)) for image in images.numpy()]
        if found:
            return torch.stack(found)
        # a batch of none: its grid is that of a batch of one
        return self._scores(x.new_zeros(1, *x.shape[1:]))[:0]

    def _finish(self, scores: Tensor, x: Tensor) -> Tensor:
        """What a call returns, of `_scores`."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"operators={len(self.program.operators)}, other_layers={self.other_layers}"


class _Traceable(nn.Module):
    def __init__(self, packed: _Packed) -> None:
        super().__init__()
        self.network = ProgramNetwork(packed.program)
        self._packed = [packed]  # not a submodule: it holds no tensors

    def forward(self, x: Tensor) -> Tensor:
        (packed,) = self._packed
        return packed._finish(self.network(packed._images(x)), x)


class PackedSegmenter(_Packed, Segmenter):
    """A segmentation network of bits, thresholds and folded real layers; it cannot be trained.

    Made by `binseg.pack` from a trained network, or by `binseg.load` from a file.

    Args:
        program: see docs/program.md.
        preprocessing: how images were normalised for the trained network.
        other_layers: arithmetic of the layers that are not binary: "fp32", "bf16" or "int8".
        architecture: the arguments of `create_model` that made the trained network, for people.

    Shapes:
        x: uint8 (N, 3, H, W), or float32, normalised; numbers between two bytes are rounded.
        returns float32 logits (N, num_classes, H, W).

    Raises:
        BinsegError: a call with something else than such images, or with one that is too small.
    """

    def __init__(
        self,
        program: Program,
        preprocessing: Preprocessing,
        *,
        other_layers: OtherLayers = "fp32",
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(dict(architecture or {}))
        self._set_up(program, preprocessing, other_layers)

    @property
    def num_classes(self) -> int:
        """Channels of the logits."""
        return self.outputs

    def forward(self, x: Tensor) -> Tensor:
        return self._finish(self._scores(x), x)

    def _finish(self, scores: Tensor, x: Tensor) -> Tensor:
        return resize_logits(scores.permute(0, 3, 1, 2), x.shape[-2:])

    def scores(self, x: Tensor) -> Tensor:
        """Logits on the head's own grid, float32 (N, num_classes, h, w)."""
        return self._scores(x).permute(0, 3, 1, 2)

    def class_map(self, x: Tensor) -> Tensor:
        """The class of each pixel, uint8 (N, H, W): upsampling and argmax in one."""
        if x.device.type != "cpu":
            return torch.ops.binseg.upsample_argmax(self._scores(x), *x.shape[2:])
        images = self._images(x)
        self.executor.threads = torch.get_num_threads()
        found = [torch.from_numpy(self.executor.class_map(image)) for image in images.numpy()]
        return torch.stack(found) if found else torch.empty(0, *x.shape[2:], dtype=torch.uint8)


class PackedClassifier(_Packed):
    """A classification network of bits, thresholds and folded real layers.

    Made by `binseg.pack` from a trained network; there is no file of it.

    Args:
        program: its output has one pixel.
        preprocessing: how images were normalised for the trained network.
        other_layers: see `PackedSegmenter`.
        architecture: the arguments of `create_classifier` that made the trained network.

    Shapes:
        x: uint8 (N, 3, H, W), or float32, normalised; numbers between two bytes are rounded.
        returns float32 logits (N, num_classes).

    Raises:
        BinsegError: a call with something else than such images, or with one of a size that the
            network does not take.
    """

    def __init__(
        self,
        program: Program,
        preprocessing: Preprocessing,
        *,
        other_layers: OtherLayers = "fp32",
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.architecture = dict(architecture or {})
        self._set_up(program, preprocessing, other_layers)

    def forward(self, x: Tensor) -> Tensor:
        return self._finish(self._scores(x), x)

    def _finish(self, scores: Tensor, x: Tensor) -> Tensor:
        return scores.flatten(1)
