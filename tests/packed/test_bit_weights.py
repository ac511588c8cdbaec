"""Binary convolutions of real maps, packed: what they compute and what a file holds."""

import pytest
import torch
from torch import nn

from binseg.nn.layers import BinaryConv2d
from binseg.packed.bit_weights import BitWeightConv, Int8BitWeightConv, bit_weight_conv
from binseg.packed.calibration import Range
from binseg.packed.folding import Folding
from binseg.summarize import measure_size


def layers(scale="filter", kernel=3, **options):
    """A binary convolution of real maps, 5 → 7 channels, and a BatchNorm of gains of all signs."""
    torch.manual_seed(0)
    conv = BinaryConv2d(5, 7, kernel, real_input=True, scale=scale, **options).eval()
    norm = nn.BatchNorm2d(7).eval()
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.weight.data[2] = 0.0
    conv.weight.data[4] = 0.0  # a scale of 0, all signs +1
    return conv, norm


SHAPES = [
    {},
    {"stride": 2},
    {"dilation": 3, "kernel": 5},
    {"kernel": 1, "stride": 2},
    {"kernel": 1},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", ["filter", "layer", "none"])
@pytest.mark.parametrize("relu", [False, True])
@torch.no_grad()
def test_bit_weights_in_float32(shape, scale, relu):
    conv, norm = layers(scale, **shape)
    packed = bit_weight_conv(conv, norm, Folding("fp32"), relu=relu)
    assert isinstance(packed, BitWeightConv)
    x = torch.randn(2, 5, 9, 6)
    expected = norm(conv(x))
    found = packed(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected.relu() if relu else expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_bit_weights_of_bytes_are_exact_on_whole_numbers(shape):
    conv, norm = layers(**shape)
    packed = bit_weight_conv(conv, norm, Folding("int8", {conv: Range(-10.0, 245.0)}))
    assert isinstance(packed, Int8BitWeightConv)
    x = torch.randint(-10, 246, (2, 5, 9, 6)).float()
    found = packed(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, norm(conv(x)), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("rest", ["fp32", "bf16", "int8"])
def test_a_file_holds_one_bit_for_a_weight(rest):
    conv, norm = layers()
    folding = Folding(rest, {conv: Range(-3.0, 4.0)})
    packed = bit_weight_conv(conv, norm, folding, relu=True)
    given = packed.give()
    terms = 5 * 3 * 3
    assert given["bits"].shape == (-(-7 * terms // 8),)
    row = [(int(given["bits"][i // 8]) >> i % 8) & 1 for i in range(7 * terms)]
    # filter by filter, and in it pixel by pixel of the kernel, channels last
    plain = conv.weight.permute(0, 2, 3, 1).reshape(7, -1)
    for out in {*range(7)} - ({2, 4} if rest != "int8" else set()):
        assert row[out * terms : (out + 1) * terms] == [int(w >= 0) for w in plain[out]]
    with torch.device("meta"):
        bare = BinaryConv2d(5, 7, 3, real_input=True, scale="filter")
        bare_norm = nn.BatchNorm2d(7)
    other = bit_weight_conv(bare, bare_norm, Folding(rest), relu=True)
    wanted = other.expected()
    assert given.keys() == wanted.keys()
    for name, tensor in given.items():
        assert tensor.shape == wanted[name].shape
        assert tensor.dtype in wanted[name].dtypes
    other.take(given)
    for name, tensor in packed.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert measure_size(other).binary == 7 * terms
    stored = sum(tensor.nbytes for tensor in given.values())
    assert measure_size(other).packed_bytes == stored
