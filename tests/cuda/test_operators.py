"""The operators of torch: what they refuse, and that torch's own checks find nothing."""

import pytest
import torch
from cuda_emulation import cases

from binseg.errors import BinsegError
from binseg.program.cuda import weights

CALLS = dict(
    reversed(
        [
            *cases.bits_calls(cases.CONVS[2], cases.TENSOR),
            *cases.real_calls(cases.CONVS[2], cases.TENSOR),
            *cases.merge_calls(cases.MERGES[-2], cases.TENSOR),
            *cases.all_other_calls(),
        ]
    )
)
"""The first call of each operator."""


def call(name, *arguments):
    return getattr(torch.ops.binseg, name)(*arguments)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_opcheck(name):
    operator = getattr(torch.ops.binseg, name).default
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(operator, CALLS[name], test_utils=tests)


def changed(name, position, change):
    arguments = list(CALLS[name])
    arguments[position] = change(arguments[position])
    return arguments


@pytest.mark.parametrize(
    ("name", "position", "change", "says"),
    [
        ("conv_bits", 0, lambda t: t.float(), "bits must be"),
        ("conv_bits", 0, lambda t: t[:, :, :, :, :-1], "bits must be"),
        ("conv_bits", 1, lambda t: t[:-1], "weight must be"),
        ("conv_bits", 2, lambda t: t[:, 1:], "table must be"),
        ("conv_bits", 3, lambda t: t[1:], "low must be"),
        ("conv_bits", 8, lambda n: 0, "no such convolution"),
        ("conv_bits", 10, lambda n: 2, "no such convolution"),
        ("conv_bits", 11, lambda n: (1,), "a plan is three"),
        ("conv_real", 3, lambda t: t[:2], "curve must be"),
        ("conv_merge", 5, lambda t: t[:, 1:], "residual must be"),
        ("conv_merge", 7, lambda t: t[:-1], "lambdas must be"),
        ("pack_sign", 2, lambda n: 3, "cannot make 3 bases"),
        ("conv_int8", 2, lambda t: t[1:], "border must be"),
        ("conv_int8", 5, lambda n: (60, 60), "weight must be"),
        ("conv_float", 5, lambda n: (60, 60), "weight must be"),
        ("fma", 1, lambda t: t[:-1], "cannot be broadcast"),
        ("quantize", 1, lambda n: -1.0, "inverse scale"),
        ("ordered_sum", 0, lambda t: t[0], "ordered_sum takes"),
        ("resize", 1, lambda n: 0, "cannot resize"),
        ("upsample_argmax", 0, lambda t: t.repeat(1, 1, 1, 99), "255 classes"),
    ],
)
def test_wrong_arguments_are_named(name, position, change, says):
    with pytest.raises((BinsegError, RuntimeError, ValueError), match=says):
        call(name, *changed(name, position, change))


def test_a_map_of_more_elements_than_can_be_counted_is_refused():
    x = torch.empty(1, 1, 1, 3, device="meta").expand(1, 30_000, 30_000, 3)
    with pytest.raises(BinsegError, match="too large"):
        torch.ops.binseg.pack_sign(x, None, 1)


@pytest.mark.parametrize("engine", ["tensor", "wgmma"])
def test_weights_can_be_restored(engine):
    rng = torch.Generator().manual_seed(0)
    weight = (torch.rand(2, 70, 9, 37, generator=rng) < 0.5).numpy()
    arranged = weights.arrange_bits(weight, engine)
    assert (weights.restore_bits(arranged, 70, 9, 37, engine) == weight).all()
    assert weights.unpack_bits(weights.pack_bits(weight), 37).shape == weight.shape
