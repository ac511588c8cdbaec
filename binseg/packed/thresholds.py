"""What follows a binary convolution, as integers to compare with or as three numbers a channel."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.nn.binarize import weight_scale
from binseg.nn.layers import BinaryConv2d

_CHUNK = 1 << 22
"""Values that are looked at together: 16 MB of float32."""


def find_thresholds(
    after: Callable[[Tensor], Tensor], channels: int, terms: int, *, name: str
) -> tuple[Tensor, Tensor]:
    """The integers s for which `after` is ≥ 0, as the ranges of `ops.conv_bits`.

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
        BinsegError: the sign of `after` changes more than twice in a channel.
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
        raise BinsegError(
            f"{name}: what follows the convolution changes its sign {int(changes.max())} times; a "
            "packed network takes two changes at most"
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


def unit_thresholds(unit: nn.Sequential, name: str) -> tuple[Tensor, Tensor]:
    """`find_thresholds` of a unit: binary convolution → layers of one channel each."""
    conv = unit[0]
    assert isinstance(conv, BinaryConv2d)
    # a copy, because layers work in place or are in training mode
    layers = deepcopy(nn.Sequential(*list(unit)[1:])).cpu().float().eval()
    factor = _factor(conv)

    @torch.no_grad()
    def after(sums: Tensor) -> Tensor:
        return layers(sums if factor is None else sums * factor.float().view(1, -1, 1, 1))

    terms = conv.in_channels * conv.kernel_size**2
    return find_thresholds(after, conv.weight.shape[0], terms, name=name)


def unit_curve(unit: nn.Sequential, name: str) -> tuple[Tensor, bool]:
    """Scale, nonlinearity and BatchNorm of a unit as the curve of `ops.conv_real`.

    Args:
        unit: binary convolution (→ ReLU, PReLU or tanh) (→ BatchNorm).
        name: what an error calls the layer.

    Returns:
        float64 (3, K·C_out), and whether it is a tanh curve.

    Raises:
        BinsegError: another kind of layer.
    """
    conv, *after = unit
    assert isinstance(conv, BinaryConv2d)
    gain = torch.ones(conv.weight.shape[0], dtype=torch.float64)
    bias = torch.zeros_like(gain)
    if after and isinstance(after[-1], nn.BatchNorm2d):
        gain, bias = norm_affine(after.pop())
    middle = after[0] if after else nn.Identity()
    factor = _factor(conv)
    factor = torch.ones_like(gain) if factor is None else factor.double()
    if isinstance(middle, nn.Tanh):
        return torch.stack([gain, factor, bias]), True
    if isinstance(middle, nn.PReLU):
        slope = middle.weight.detach().cpu().double().expand_as(gain)
    elif isinstance(middle, nn.ReLU | nn.Identity):
        slope = torch.full_like(gain, float(isinstance(middle, nn.Identity)))
    else:
        raise BinsegError(f"{name}: a {type(middle).__name__} cannot be packed")
    return torch.stack([gain * factor, gain * factor * slope, bias]), False


@torch.no_grad()
def norm_affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Gain γ / √(σ² + ε) and bias β − μ·gain of a BatchNorm in eval mode.

    Read off the layer itself, so that they are its own float32 numbers and x·gain + bias with one
    rounding equals it bit for bit.

    Returns:
        float64 (C,) each.
    """
    assert isinstance(norm, nn.BatchNorm2d)
    own = deepcopy(norm).cpu().float().eval()
    zero = torch.zeros(1, norm.num_features, 1, 1)
    bias = own(zero)
    assert own.running_mean is not None
    own.running_mean.zero_()
    own.bias.zero_()
    gain = own(torch.ones_like(zero))
    return gain.flatten().double(), bias.flatten().double()


def _factor(conv: BinaryConv2d) -> Tensor | None:
    """The weights' scale, (K·C_out,) in their own dtype, or None."""
    factor = weight_scale(conv.latent_weight.detach(), conv.scale, conv.bases)
    return None if factor is None else factor.flatten().cpu()
