"""The sign function, the gradients that stand in for its own, and what to use in its place.

Everywhere in binseg sign(0) = +1: a bit has no third value, so the training graph has none either.
"""

from typing import Literal

import torch
from torch import Tensor

from binseg.network_options import WeightGradient, WeightScale

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


class _ScaledSign(torch.autograd.Function):
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


class _XnorSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, scale: Tensor, clip: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(weight, scale)
        ctx.clip = clip
        return sign(weight) * scale

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        weight, scale = ctx.saved_tensors
        signs = sign(weight)
        through_scale = (grad * signs).mean(dim=(1, 2, 3), keepdim=True)
        return scale * grad * (weight.abs() <= ctx.clip) + signs * through_scale, None, None


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
    clip: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """q(W) = s·sign(W), s from `weight_scale`, with one of these for dq/dW:

    "identity": 1; "clip": 1{|W| ≤ clip}; "ede": the gradient of `sign_ede`. In these the scale
    takes no part in the gradient, as in the released codes of Group-Net and Bi-Real Net.
    "xnor": the gradient passes through the scale too: for incoming g and a filter of n weights,
    s·1{|W| ≤ clip}·g + (1/n)·sign(W)·Σ(g·sign(W)) (Rastegari et al. 2016, "XNOR-Net",
    section 3.1); it needs scale "filter".

    Args:
        weight: latent weights (bases·C_out, C_in, k, k).
        clip: for "clip" and "xnor", in units of W.
        temperature: for "ede".

    Returns:
        The same shape; ±s.
    """
    factor = weight_scale(weight, scale, bases)
    if gradient == "xnor":
        assert factor is not None
        return _XnorSign.apply(weight, factor, clip)
    if gradient == "ede":
        signs = sign_ede(weight, temperature)
        return signs if factor is None else _scaled_without_gradient(signs, factor)
    return _ScaledSign.apply(weight, factor, clip if gradient == "clip" else None)


def _scaled_without_gradient(signs: Tensor, factor: Tensor) -> Tensor:
    """signs·factor, with the gradient of `signs` alone."""
    return signs + (signs * (factor - 1)).detach()


def shift_weight(weight: Tensor, logit: Tensor) -> Tensor:
    """W + σ(α_o)·0.01·mean(W_o), the mean of each output channel without gradient (WSD).

    Source: Xue et al. 2021, "Self-Distribution Binary Neural Networks", section 3.3.

    Args:
        weight: latent weights (C_out, C_in, k, k).
        logit: α, (C_out,).
    """
    mean = weight.detach().mean(dim=(1, 2, 3), keepdim=True)
    return weight + torch.sigmoid(logit).view(-1, 1, 1, 1) * (0.01 * mean)


@torch.no_grad()
def center_and_clamp_(weight: Tensor) -> None:
    """In place: subtract the mean over C_in at each kernel position, then clamp to [−1, 1].

    What XNOR-Net does to its latent weights before each binarization. Source: Rastegari et al.
    2016, released code.

    Args:
        weight: latent weights (C_out, C_in, k, k).
    """
    weight.sub_(weight.mean(dim=1, keepdim=True)).clamp_(-1, 1)
