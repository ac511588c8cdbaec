"""Convolutions that hypothesis chooses, run by every backend of this machine."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

from binseg.kernels import dispatch, isa, ops
from binseg.kernels.layout import pack_weight
from binseg.kernels.shape import ConvShape

BACKENDS = isa.supported()
CHANNELS = st.sampled_from([1, 3, 16, 31, 32, 33, 64, 65, 70, 96])
SIZES = st.integers(1, 11)
# compiling on first use takes longer than hypothesis allows an example
property_based = settings(max_examples=60, deadline=None)


@st.composite
def convolutions(draw):
    """A shape, a packed map, packed weights and a generator for more."""
    bases = draw(st.integers(1, 3))
    dilations = draw(
        st.one_of(
            st.just((1,) * bases),
            st.tuples(*[st.sampled_from([1, 2, 5, 30])] * bases),
        )
    )
    shape = ConvShape(
        draw(CHANNELS),
        draw(CHANNELS),
        (draw(st.sampled_from([1, 2, 3, 5])), draw(st.sampled_from([1, 3, 4]))),
        draw(st.integers(1, 3)),
        dilations,
        draw(st.sampled_from([-1, 0, 1])),
    )
    torch.manual_seed(draw(st.integers(0, 2**16)))
    inputs = draw(st.sampled_from([1, bases]))
    size = (draw(st.integers(0, 2)), draw(SIZES), draw(SIZES), inputs, shape.in_channels)
    weight = torch.randn(bases * shape.out_channels, shape.in_channels, *shape.kernel)
    return shape, ops.pack_sign(torch.randn(size)), pack_weight(weight, bases)


def everywhere(run):
    """The reference's result, and (backend, result) of all the others."""
    with dispatch.use("reference"):
        expected = run()
    results = []
    for name in BACKENDS:
        with dispatch.use(name):
            results.append((name, run()))
    return expected, results


def output_size(bits, shape):
    return (bits.shape[0], *shape.output_size(bits.shape[1], bits.shape[2]))
