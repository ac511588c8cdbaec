"""`group_norm` and `adaptive_avg_pool` against torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from binseg.program.builder import ProgramBuilder
from binseg.program.interpreter import Interpreter
from binseg.program.program import ProgramError

IMAGE = np.random.default_rng(0).integers(0, 256, (13, 10, 3), dtype=np.uint8)


def scores(kind, attributes, *, tensors=None, channels=12):
    """The operator's result, and its input as torch has it."""
    rng = np.random.default_rng(1)
    builder = ProgramBuilder()
    builder.tensor("scale", np.float32([0.02, 0.01, 0.03]))
    builder.tensor("shift", np.float32([-1, -2, 0.5]))
    names = {"scale": "scale", "shift": "shift"}
    (x,) = builder.add("normalize", [0], ["real"], tensors=names)
    builder.tensor("weight", rng.normal(size=(channels, 1, 1, 3)).astype(np.float32))
    window = {"kernel": [1, 1], "stride": [1, 1], "pads": [0, 0, 0, 0]}
    (x,) = builder.add("conv", [x], ["real"], tensors={"weight": "weight"}, **window)
    given = {role: builder.tensor(f"own.{role}", value) for role, value in (tensors or {}).items()}
    (y,) = builder.add(kind, [x], ["real"], tensors=given, **attributes)
    program = builder.build(y)
    found = dict(Interpreter(program).values(IMAGE))
    return found[y], torch.from_numpy(found[x]).permute(2, 0, 1)[None]


@pytest.mark.parametrize("size", [[1, 1], [2, 2], [3, 1], [6, 6], [13, 10], [20, 11]])
def test_adaptive_avg_pool(size):
    found, x = scores("adaptive_avg_pool", {"size": size})
    expected = F.adaptive_avg_pool2d(x, size)[0].permute(1, 2, 0)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_group_norm(groups):
    rng = np.random.default_rng(2)
    tensors = {role: rng.normal(size=12).astype(np.float32) for role in ("scale", "bias")}
    attributes = {"groups": groups, "over": "map", "epsilon": 1e-5}
    found, x = scores("group_norm", attributes, tensors=tensors)
    weight, bias = (torch.from_numpy(tensors[role]) for role in ("scale", "bias"))
    expected = F.group_norm(x, groups, weight, bias, 1e-5)[0].permute(1, 2, 0)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


def test_norm_of_each_pixel():
    rng = np.random.default_rng(2)
    tensors = {role: rng.normal(size=12).astype(np.float32) for role in ("scale", "bias")}
    found, x = scores("group_norm", {"over": "pixel", "epsilon": 1e-6}, tensors=tensors)
    weight, bias = (torch.from_numpy(tensors[role]) for role in ("scale", "bias"))
    expected = F.layer_norm(x.permute(0, 2, 3, 1), [12], weight, bias, 1e-6)[0]
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        ("adaptive_avg_pool", {"size": [0, 1]}, "'size'"),
        ("adaptive_avg_pool", {}, "'size'"),
        ("group_norm", {"over": "map", "epsilon": 1e-5, "groups": 5}, "5 groups"),
        ("group_norm", {"over": "image", "epsilon": 1e-5}, "'over'"),
        ("group_norm", {"over": "map", "epsilon": 0}, "'epsilon'"),
    ],
)
def test_what_is_not_defined_is_refused(kind, attributes, message):
    ones = np.ones(12, np.float32)
    tensors = {"scale": ones, "bias": ones} if kind == "group_norm" else {}
    with pytest.raises(ProgramError, match=message):
        scores(kind, attributes, tensors=tensors)
