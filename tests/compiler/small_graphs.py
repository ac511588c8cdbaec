"""Graphs of a few nodes for the tests of passes, and their results by the reference."""

from collections import Counter

import numpy as np
import torch
from torch import nn

from binseg.compiler.compile import compile_network, read_network
from binseg.compiler.graph import Graph
from binseg.data.preprocess import Preprocessing
from binseg.program.interpreter import Interpreter
from binseg.program.program import Program

PLAIN = Preprocessing()


def graph_of(*layers: nn.Module) -> Graph:
    """What is read of a sequence in eval mode."""
    return read_network(nn.Sequential(*layers).eval(), PLAIN)


def kinds(graph: Graph | Program) -> list[str]:
    """The kinds of nodes or operators in their order, without what every graph has."""
    nodes = graph.operators if isinstance(graph, Program) else graph.nodes
    return [node.kind for node in nodes if node.kind not in ("image", "normalize", "output")]


def counts(program: Program) -> Counter[str]:
    """Kind → how many operators."""
    return Counter(operator.kind for operator in program.operators)


def program_of(*layers: nn.Module, **options) -> Program:
    """The program of a sequence, in fp32 unless said otherwise."""
    return compile_network(nn.Sequential(*layers).eval(), PLAIN, **options)


def bytes_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A random image."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@torch.inference_mode()
def check(program: Program, *layers: nn.Module, size: tuple[int, int] = (13, 10), **near) -> None:
    """The program gives what the layers give."""
    image = bytes_of(*size)
    x = PLAIN.normalize(torch.from_numpy(image).permute(2, 0, 1)[None].contiguous())
    expected = nn.Sequential(*layers).eval()(x)
    found = torch.from_numpy(np.ascontiguousarray(Interpreter(program).scores(image)))
    near = near or {"rtol": 1e-4, "atol": 1e-5 * float(expected.abs().max())}
    torch.testing.assert_close(found.permute(2, 0, 1)[None], expected, **near)


def norm(channels: int, seed: int = 0) -> nn.BatchNorm2d:
    """A BatchNorm that looks trained, with gains of both signs."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.BatchNorm2d(channels).eval()
    for tensor in (layer.weight.data, layer.bias.data, layer.running_mean):
        tensor.normal_(generator=generator)
    layer.running_var.uniform_(0.2, 1, generator=generator)
    return layer
