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
from binseg.program.executor import Executor, create_executor
from binseg.program.file import OtherLayers
from binseg.program.program import Program


class _Packed(nn.Module):
    """What packed networks share: they run on the CPU, on as many threads as torch.

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
        self.eval()

    def run_on(self, backend: str) -> None:
        """Run on another backend of this machine, see `binseg.program.executor.backends`.

        Raises:
            BinsegError: there is no such backend.
        """
        self.executor = create_executor(self.program, backend)

    def images(self, x: Tensor) -> list[np.ndarray]:
        """A batch as the program takes it: uint8 (H, W, 3) each.

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
        self.executor.threads = torch.get_num_threads()
        if x.dtype == torch.float32:
            x = self.preprocessing.to_bytes(x)
        return list(x.detach().cpu().permute(0, 2, 3, 1).contiguous().numpy())

    def extra_repr(self) -> str:
        return f"operators={len(self.program.operators)}, other_layers={self.other_layers}"


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
        return resize_logits(self.scores(x), x.shape[-2:])

    def scores(self, x: Tensor) -> Tensor:
        """Logits on the head's own grid, float32 (N, num_classes, h, w)."""
        found = [torch.from_numpy(self.executor.scores(image)) for image in self.images(x)]
        if not found:  # a batch of none: its grid is that of a batch of one
            return self.scores(x.new_zeros(1, *x.shape[1:]))[:0]
        return torch.stack(found).permute(0, 3, 1, 2).to(x.device)

    def class_map(self, x: Tensor) -> Tensor:
        """The class of each pixel, uint8 (N, H, W): upsampling and argmax in one."""
        found = [torch.from_numpy(self.executor.class_map(image)) for image in self.images(x)]
        if not found:
            return torch.empty(0, *x.shape[2:], dtype=torch.uint8, device=x.device)
        return torch.stack(found).to(x.device)


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
        found = [torch.from_numpy(self.executor.scores(image)) for image in self.images(x)]
        if not found:
            return x.new_empty(0, self.outputs, dtype=torch.float32)
        return torch.stack(found).flatten(1).to(x.device)
