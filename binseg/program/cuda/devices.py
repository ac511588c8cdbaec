"""Programs on a device of torch: which kernels, and the executor."""

import os
import time

import numpy as np
import torch
from torch import Tensor

from binseg.errors import BinsegError, unknown_name
from binseg.program.cuda import build
from binseg.program.cuda.network import CPU_PLAN, ProgramNetwork
from binseg.program.cuda.operator_tensors import Plan
from binseg.program.cuda.weights import ENGINES, Engine
from binseg.program.program import Program, ProgramError
from binseg.program.sizes import Size

ENVIRONMENT = "BINSEG_CUDA"
"""Names an engine to use in place of the GPU's default one."""


def engines(capability: tuple[int, int]) -> tuple[Engine, ...]:
    """Those that a GPU has, the default first."""
    # later GPUs have no 1-bit tensor cores: their instructions on bits are emulated
    if not (7, 5) <= capability < (10, 0):
        return ("cores",)
    return ("tensor", "wgmma", "cores") if capability == (9, 0) else ("tensor", "cores")


def plan_for(device: torch.device) -> Plan:
    """How convolutions over bits run on a device; builds and loads the kernels of CUDA.

    Raises:
        BuildError: no kernels for this machine.
        BinsegError: the environment names an engine that is unknown or that this GPU lacks, or the
            device is neither a CPU nor a CUDA GPU.
    """
    if device.type == "cpu":
        return CPU_PLAN
    if device.type != "cuda":
        raise BinsegError(f"packed networks run on the CPU and on CUDA, not on {device}")
    build.load()
    had = engines(torch.cuda.get_device_capability(device))
    asked = os.environ.get(ENVIRONMENT) or had[0]
    if asked not in had:
        raise unknown_name(f"engine in {ENVIRONMENT}", asked, had)
    return ENGINES.index(asked), 0, 0


class TorchExecutor:
    """Runs a program on a device of torch; see `binseg.program.executor.Executor`.

    Args:
        program: of any origin.
        device: a CUDA GPU, or the CPU (in numpy, for tests).

    Attributes:
        device, network: where and what.

    Raises:
        ProgramError, BuildError, BinsegError: see `plan_for` and `ProgramNetwork`.
    """

    threads = 1

    def __init__(self, program: Program, device: torch.device | str = "cuda") -> None:
        self.device = torch.device(device)
        network = ProgramNetwork(program, plan=plan_for(self.device))
        self.network = network.to(self.device).eval()

    @property
    def backend(self) -> str:
        return self.device.type if self.device.type == "cuda" else "torch"

    @torch.inference_mode()
    def batch_scores(self, images: Tensor) -> Tensor:
        """The program's output for several images, on the device.

        Args:
            images: uint8 (N, H, W, 3), on the device.

        Returns:
            float32 (N, h, w, classes); nan is not looked for.
        """
        return self.network(images)

    def scores(self, image: np.ndarray) -> np.ndarray:
        return self._scores(image)[0].cpu().numpy()

    @torch.inference_mode()
    def class_map(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        height, width = size or image.shape[:2]
        found = torch.ops.binseg.upsample_argmax(self._scores(image), height, width)
        return found[0].cpu().numpy()

    @torch.inference_mode()
    def operator_seconds(self, image: np.ndarray) -> list[float]:
        owner = {
            value: index
            for index, operator in enumerate(self.network.program.operators)
            for value in operator.outputs.values()
        }
        seconds = [0.0] * len(self.network.program.operators)
        self._wait()
        began = time.perf_counter()
        for value, _ in self.network.values(self._images(image)):
            self._wait()
            now = time.perf_counter()
            seconds[owner[value]] += now - began
            began = now
        return seconds

    def _images(self, image: np.ndarray) -> Tensor:
        return torch.from_numpy(np.require(image, requirements=["C", "W"]))[None].to(self.device)

    def _scores(self, image: np.ndarray) -> Tensor:
        scores = self.batch_scores(self._images(image))
        if scores.isnan().any():
            raise ProgramError("the network's scores hold nan: its weights are damaged")
        return scores

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
