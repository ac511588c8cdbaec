"""Binary activations: the sign, with a fixed or a learnt threshold; and RPReLU."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError, unknown_name
from binseg.network_options import ActivationGradient, Threshold
from binseg.nn.binarize import sign_approx, sign_ede, sign_ste

ActivationMode = Literal["sign", "tanh", "hardtanh", "identity"]


class BinaryActivation(nn.Module):
    """Activations to ±1, with a surrogate gradient and a switch for the two-step training.

    Args:
        gradient: "ste" (clipped straight-through), "approx" (ApproxSign) or "ede" (tanh-based).
        clip: where the straight-through gradient ends, in units of x; only for "ste".

    Attributes:
        mode: "sign" binarizes; "tanh" and "hardtanh" are the smooth stand-ins of the first
            training step; "identity" lets real activations pass.
        temperature: t of the tanh-based gradient; a schedule sets it.
        precision: bits of an activation in mode "sign".
    """

    precision = 1

    def __init__(self, gradient: ActivationGradient = "approx", *, clip: float = 1.0) -> None:
        super().__init__()
        if gradient not in get_args(ActivationGradient):
            raise unknown_name("activation gradient", gradient, get_args(ActivationGradient))
        self.gradient: ActivationGradient = gradient
        self.clip = clip
        self.temperature = 1.0
        self.mode: ActivationMode = "sign"

    def forward(self, x: Tensor) -> Tensor:
        """Any shape and floating dtype to the same; ±1 in mode "sign"."""
        if self.mode == "tanh":
            return torch.tanh(x)
        if self.mode == "hardtanh":
            return nn.functional.hardtanh(x)
        if self.mode == "identity":
            return x
        if self.gradient == "ste":
            return sign_ste(x, self.clip)
        if self.gradient == "approx":
            return sign_approx(x)
        return sign_ede(x, self.temperature)

    def extra_repr(self) -> str:
        return f"gradient={self.gradient}, mode={self.mode}"


class LearntSign(BinaryActivation):
    """RSign: sign(x + b_c) with a learnt shift for each channel.

    Source: Liu et al. 2020, "ReActNet", section 4.2 (there with a threshold α = −b).

    Args:
        channels: of x.
        gradient, clip: see `BinaryActivation`.

    Attributes:
        shift: b, (channels,), at first 0.
    """

    def __init__(
        self, channels: int, gradient: ActivationGradient = "approx", *, clip: float = 1.0
    ) -> None:
        super().__init__(gradient, clip=clip)
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        return super().forward(x + self.shift.view(1, -1, 1, 1).to(x.dtype))


class AdaptiveSign(BinaryActivation):
    """ASD: sign(x + s), s = σ(W₂·ReLU(W₁·GAP(x))) for each image and channel.

    Source: Xue et al. 2021, "Self-Distribution Binary Neural Networks", section 3.2.

    Args:
        channels: of x.
        reduction: channels to one hidden unit; at least one unit remains.
        gradient, clip: see `BinaryActivation`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        gradient: ActivationGradient = "approx",
        *,
        clip: float = 1.0,
    ) -> None:
        super().__init__(gradient, clip=clip)
        if reduction < 1:
            raise BinsegError(f"the reduction must be at least 1, not {reduction}")
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.excite = nn.Linear(hidden, channels, bias=False)

    def shift(self, x: Tensor) -> Tensor:
        """s of (N, channels, H, W): (N, channels), in (0, 1)."""
        mean = x.mean(dim=(2, 3))
        return torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        return super().forward(x + self.shift(x)[:, :, None, None].to(x.dtype))


class RPReLU(nn.Module):
    """y = PReLU_c(x + g_c) + z_c.

    Source: Liu et al. 2020, "ReActNet", section 4.2 (there with γ = −g and ζ = z).

    Attributes:
        before_shift, after_shift: g and z, (channels,), at first 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before_shift = nn.Parameter(torch.zeros(channels))
        self.prelu = nn.PReLU(channels)
        self.after_shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        if self.training:
            return _TrainedRPReLU.apply(x, self.before_shift, self.prelu.weight, self.after_shift)
        before, after = (
            shift.view(1, -1, 1, 1).to(x.dtype) for shift in (self.before_shift, self.after_shift)
        )
        return self.prelu(x + before) + after


class _TrainedRPReLU(torch.autograd.Function):
    """The same in fewer passes over the map: torch's PReLU takes one value at a time in bfloat16,
    and with the shifts' gradients a third of a training step went into it on a CPU."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, x: Tensor, before: Tensor, slope: Tensor, after: Tensor
    ) -> Tensor:
        g, a, z = (each.view(1, -1, 1, 1).to(x.dtype) for each in (before, slope, after))
        shifted = x + g
        ctx.save_for_backward(shifted, a)
        return torch.addcmul(shifted + z, shifted.clamp(max=0), a - 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
        shifted, a = ctx.saved_tensors
        # 1 where the slope counts, in the map's own dtype: see `binarize.sign`
        below = shifted.clone().lt_(0)
        inner = torch.addcmul(grad, below.mul_(grad), a - 1)
        dtype = torch.promote_types(grad.dtype, torch.float32)
        before, slope, after = (
            each.sum(dim=(0, 2, 3), dtype=dtype)
            for each in (inner, grad * shifted.clamp(max=0), grad)
        )
        return inner, before, slope, after


def create_activation(
    threshold: Threshold,
    channels: int,
    gradient: ActivationGradient,
    *,
    clip: float = 1.0,
    reduction: int = 8,
) -> BinaryActivation:
    """The activation that compares with 0, a learnt or an adaptive threshold.

    Raises:
        BinsegError: an unknown threshold (with the nearest one).
    """
    if threshold == "zero":
        return BinaryActivation(gradient, clip=clip)
    if threshold == "learnt":
        return LearntSign(channels, gradient, clip=clip)
    if threshold == "adaptive":
        return AdaptiveSign(channels, reduction, gradient, clip=clip)
    raise unknown_name("threshold", threshold, get_args(Threshold))
