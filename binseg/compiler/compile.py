"""From a trained network to a program: all passes in their order."""

from collections.abc import Mapping

import torch
from torch import nn

from binseg.compiler import functions, modules  # noqa: F401  they enter the layers that are known
from binseg.compiler.calibration import Range
from binseg.compiler.emit import emit
from binseg.compiler.grammar import read
from binseg.compiler.graph import Graph, Value
from binseg.compiler.passes import (
    curves,
    finish,
    folding,
    low_precision,
    merges,
    residuals,
    signs,
    stem,
    thresholds,
    tidy,
)
from binseg.compiler.trace import trace
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.program.program import Program


def read_network(model: nn.Module, preprocessing: Preprocessing) -> Graph:
    """The layers of a network in eval mode, as they were trained, from the image's bytes on.

    Raises:
        BinsegError: a layer that is not known, by its name.
    """
    graph = Graph()
    image = graph.add("image", [], "image").give("image", 3, kind="image")
    normalize = graph.add(
        "normalize",
        [image],
        "normalize",
        tensors={
            "scale": 1 / (255 * torch.tensor(preprocessing.std, dtype=torch.float64)),
            "shift": -torch.tensor(preprocessing.mean, dtype=torch.float64)
            / torch.tensor(preprocessing.std, dtype=torch.float64),
        },
    ).give("real", 3)
    result = read(graph, trace(model), model, normalize)
    if not isinstance(result, Value):
        raise BinsegError(
            f"a network that returns a {type(result).__name__} cannot be packed; it must return "
            "one map of scores"
        )
    graph.add("output", [result], "output")
    return graph


def compile_network(
    model: nn.Module,
    preprocessing: Preprocessing,
    *,
    other_layers: str = "fp32",
    ranges: Mapping[nn.Module, Range] | None = None,
    bf16_maps: bool = False,
) -> Program:
    """A trained network in eval mode as a program.

    Args:
        model: any network of layers that the compiler knows.
        preprocessing: how images become its input.
        other_layers: arithmetic of the layers that are not binary: "fp32", "bf16" or "int8".
        ranges: for int8, of the inputs of the convolutions of real numbers.
        bf16_maps: store the real maps between operators in bfloat16.

    Raises:
        BinsegError: a layer that is not known, by its name; weights that are not finite.
    """
    graph = read_network(model, preprocessing)
    graph.sweep()
    tidy.drop_final_resize(graph)
    tidy.drop_parts(graph)
    tidy.size_flatten(graph)
    tidy.pad_the_image(graph)

    signs.take_signs(graph)
    signs.average_before_norms(graph)
    thresholds.find_integer_thresholds(graph)
    curves.fit_curves(graph)
    signs.fold_norms_into_signs(graph)

    folding.fold_norms_after(graph)
    scores = low_precision.score_convolutions(graph)
    everything = set(graph.of("conv"))
    folding.fold_norms_before(graph, scores if other_layers == "int8" else everything)
    if other_layers == "int8":
        low_precision.to_int8(graph, dict(ranges or {}), scores, preprocessing)
        stem.pool_integer_sums(graph)
    elif other_layers == "bf16":
        low_precision.to_bfloat16(graph, scores)

    residuals.take_residuals(graph)
    finish.take_activations(graph)
    merges.merge_bases(graph)
    merges.lower_sums_and_gates(graph)
    finish.take_activations(graph)
    finish.take_signs_and_bytes(graph)
    tidy.read_sizes_elsewhere(graph)
    graph.sweep()
    graph.sort()
    if bf16_maps:
        low_precision.store_maps_in_bfloat16(graph)
    return emit(graph)
