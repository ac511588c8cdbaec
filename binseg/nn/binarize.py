"""The sign function, the gradients that stand in for its own, and what to use in its place.

Everywhere in binseg sign(0) = +1: a bit has no third value, so the training graph has none either.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from binseg.errors import unknown_name

ActivationGradient = Literal["ste", "approx", "ede"]
ActivationMode = Literal["sign", "tanh", "hardtanh", "identity"]
WeightScale = Literal["none", "layer", "filter"]
WeightGradient = Literal["identity", "clip"]
WeightMode = Literal["binary", "real"]


def sign(x: Tensor) -> Tensor:
    """+1 where x ≥ 0 (negative zero included), −1 elsewhere; same shape, dtype and layout as x."""
    # one comparison in x's own dtype; torch.where takes ten times as long on a CPU
    return x.detach().clone().ge_(0).mul_(2).sub_(1)


class _SignSTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, clip: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x.abs() <= clip)
        return sign(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (inside,) = ctx.saved_tensors
        return grad * inside, None


class _SignApprox(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return grad * x.abs().mul_(-2).add_(2).clamp_(min=0)


class _SignEDE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, temperature: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.temperature = temperature
        return sign(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        t = ctx.temperature
        k = max(1.0 / t, 1.0)
        return grad * (k * t * (1 - torch.tanh(t * x).square())), None


def sign_ste(x: Tensor, clip: float = 1.0) -> Tensor:
    """q(x) = sign(x); dq/dx := 1 where |x| ≤ clip, else 0 (clipped straight-through estimator).

    Source: Hubara et al. 2016, "Binarized Neural Networks", section 1.3; clip 1.25 in Bethge et
    al. 2019, "Back to Simplicity".
    """
    return _SignSTE.apply(x, clip)


def sign_approx(x: Tensor) -> Tensor:
    """q(x) = sign(x); dq/dx := max(0, 2 − 2|x|) (ApproxSign).

    Source: Liu et al. 2018, "Bi-Real Net", section 3.3.
    """
    return _SignApprox.apply(x)


def sign_ede(x: Tensor, temperature: float) -> Tensor:
    """q(x) = sign(x); dq/dx := k·t·(1 − tanh²(t·x)) with t = temperature and k = max(1/t, 1).

    The temperature grows while training: wide gradients first, nearly exact ones at the end.
    Source: Qin et al. 2020, "Forward and Backward Information Retention" (IR-Net), section 3.3.

    Args:
        x: any shape, floating point.
        temperature: t > 0.
    """
    return _SignEDE.apply(x, temperature)


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


class _BinarizeWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, scale: Tensor | None, clip: float | None) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.clip = clip
        if clip is not None:
            ctx.save_for_backward(weight)
        return sign(weight) if scale is None else sign(weight) * scale

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        if ctx.clip is None:
            return grad, None, None
        (weight,) = ctx.saved_tensors
        return grad * (weight.abs() <= ctx.clip), None, None


def weight_scale(weight: Tensor, scale: WeightScale, bases: int = 1) -> Tensor | None:
    """The positive factor that goes with sign(W), without gradient; None for "none".

    "layer": mean |W| over each base (Group-Net's released code); "filter": mean |W| over each
    output channel (Rastegari et al. 2016, "XNOR-Net", section 3.1: α = ‖W‖₁ / n).

    Args:
        weight: (bases·C_out, C_in, k, k), bases stacked along the output channels.
        scale: which mean.
        bases: how many bases are stacked.

    Returns:
        (bases·C_out, 1, 1, 1), positive, or None.
    """
    if scale == "none":
        return None
    magnitude = weight.detach().abs()
    if scale == "filter":
        return magnitude.mean(dim=(1, 2, 3), keepdim=True)
    mean = magnitude.reshape(bases, -1).mean(dim=1)
    return mean.repeat_interleave(weight.shape[0] // bases).view(-1, 1, 1, 1)


def binarize_weight(
    weight: Tensor,
    *,
    scale: WeightScale = "none",
    gradient: WeightGradient = "identity",
    bases: int = 1,
) -> Tensor:
    """q(W) = s·sign(W), s from `weight_scale`; dq/dW := 1, or 1{|W| ≤ 1} with gradient "clip".

    The scale takes no part in the gradient, as in the released codes of Group-Net and Bi-Real Net.

    Args:
        weight: latent weights (bases·C_out, C_in, k, k).

    Returns:
        The same shape; ±s.
    """
    clip = 1.0 if gradient == "clip" else None
    return _BinarizeWeight.apply(weight, weight_scale(weight, scale, bases), clip)
