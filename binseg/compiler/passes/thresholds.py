"""What stands between a binary convolution and a sign, as integers to compare with."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from binseg.compiler.graph import Graph, Node
from binseg.errors import BinsegError
from binseg.nn.binarize import sign, weight_scale
from binseg.nn.layers import BinaryConv2d

_CHUNK = 1 << 22
"""Values that are looked at together: 16 MB of float32."""

_CHANNELWISE = ("affine", "act")


class TooManyChangesError(BinsegError):
    """A sign that turns more than twice over the sums of a convolution."""


def find_integer_thresholds(graph: Graph) -> None:
    """binary convolution → layers of one channel each → sign: bits to bits, by integers alone."""
    for node in graph.of("binary"):
        chain, value = [], node.result
        while (user := graph.only_user(value, *_CHANNELWISE)) and user.layer is not None:
            chain.append(user)
            value = user.result
        found = graph.only_user(value, "pack_sign")
        bases = len(node.attributes["dilations"])
        if found is None or len(found.inputs) > 1 or found.attributes["bit_bases"] != bases:
            continue
        layers = [each.layer for each in (*chain, found) if each.layer is not None]
        try:
            low, span = unit_thresholds(node, layers)
        except TooManyChangesError:
            continue
        node.kind, node.tensors = (
            "conv_bits",
            {"weight": weight_bits(node), "low": low, "span": span},
        )
        node.take_over(found.result, "bits")
        del node.outputs["real"]
        for each in (*chain, found):
            graph.remove(each)


def weight_bits(node: Node) -> Tensor:
    """The weights of a binary convolution: bool (rows, kh, kw, C_in), True for +1."""
    conv = node.layer
    assert isinstance(conv, BinaryConv2d)
    return (sign(conv.latent_weight.detach().cpu()) > 0).permute(0, 2, 3, 1)


def weight_factor(node: Node) -> Tensor | None:
    """The weights' scale, (rows,) in their own dtype, or None."""
    conv = node.layer
    assert isinstance(conv, BinaryConv2d)
    factor = weight_scale(conv.latent_weight.detach(), conv.scale, conv.bases)
    return None if factor is None else factor.flatten().cpu()


def unit_thresholds(node: Node, layers: list[nn.Module]) -> tuple[Tensor, Tensor]:
    """`find_thresholds` of a binary convolution and the trained layers after it."""
    conv = node.layer
    assert isinstance(conv, BinaryConv2d)
    # a copy, because layers work in place or are in training mode
    after = deepcopy(nn.Sequential(*layers)).cpu().float().eval()
    factor = weight_factor(node)

    @torch.no_grad()
    def values(sums: Tensor) -> Tensor:
        # another copy, because the first layer may work in place
        return after(sums.clone() if factor is None else sums * factor.float().view(1, -1, 1, 1))

    terms = conv.in_channels * conv.kernel_size**2
    return find_thresholds(values, conv.weight.shape[0], terms, name=node.name)


def find_thresholds(
    after: Callable[[Tensor], Tensor], channels: int, terms: int, *, name: str
) -> tuple[Tensor, Tensor]:
    """The integers s for which `after` is ≥ 0, as `low` and `span` of the operator `conv_bits`.

    Every sum from −terms to terms is tried in the trained layers themselves, so the answer is
    theirs to the last bit, rounding included.

    Args:
        after: float32 sums (1, channels, 1, L) → values of the same shape.
        channels: K·C_out.
        terms: largest absolute value of a sum.
        name: what an error calls the layer.

    Returns:
        low, span: int32 (channels,), low in [−terms, terms + 1] and |span| ≤ 2·terms + 1.

    Raises:
        TooManyChangesError: the sign of `after` changes more than twice in a channel.
    """
    changes = torch.zeros(channels, dtype=torch.int64)
    first = torch.full((channels,), terms + 1)  # the last sum before the first change
    last = torch.full((channels,), -terms - 1)  # the last sum before the last change
    lowest: Tensor | None = None  # whether −terms is in the set
    before = torch.zeros(channels, 0, dtype=torch.bool)
    step = max(1, _CHUNK // channels)
    for start in range(-terms, terms + 1, step):
        sums = torch.arange(start, min(start + step, terms + 1))
        values = after(sums.float().expand(1, channels, 1, -1).contiguous())
        inside = torch.cat([before, values[0, :, 0] >= 0], dim=1)
        if lowest is None:
            lowest = inside[:, 0]
        rows, places = (inside[:, 1:] != inside[:, :-1]).nonzero(as_tuple=True)
        found = sums[-1] - (inside.shape[1] - 1) + places
        changes += rows.bincount(minlength=channels)
        first.scatter_reduce_(0, rows, found, "amin")
        last.scatter_reduce_(0, rows, found, "amax")
        before = inside[:, -1:]
    assert lowest is not None
    if int(changes.max()) > 2:
        raise TooManyChangesError(
            f"{name}: what follows the convolution changes its sign {int(changes.max())} times; "
            "thresholds take two changes at most"
        )
    # no change: all or nothing; one: up to `first` or from there on; two: inside or outside
    low = torch.where(lowest, -terms, first + 1)
    high = torch.where(lowest, first, torch.where(changes == 2, last, terms))
    low = torch.where((changes == 0) & ~lowest, terms + 1, low)
    high = torch.where(changes == 0, torch.where(lowest, terms, terms + 1), high)
    outside = (changes == 2) & lowest
    low = torch.where(outside, last + 1, low)
    high = torch.where(outside, first, high)  # below low: the range wraps around
    return low.int(), (high - low).int()
