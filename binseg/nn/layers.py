"""`BinaryConv2d`: a convolution of ±1 with ±1, for one base or several at once."""

from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError, unknown_name
from binseg.network_options import ActivationGradient, Threshold, WeightGradient, WeightScale
from binseg.nn.activations import ActivationMode, BinaryActivation, create_activation
from binseg.nn.binarize import (
    WeightMode,
    binarize_weight,
    center_and_clamp_,
    shift_weight,
    sign,
    weight_scale,
)


class ScalingMap(nn.Module):
    """K: the mean of |x| over the channels and the pixels under a kernel, zeros outside the map.

    A layer of its own, so that its multiplications are not taken for those of bits. Source:
    Rastegari et al. 2016, "XNOR-Net", section 3.2.

    Args:
        kernel_size, stride, dilation: of the convolution whose results K multiplies.
    """

    def __init__(self, kernel_size: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.dilation = kernel_size, stride, dilation

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, ⌈H / stride⌉, ⌈W / stride⌉)."""
        magnitude = x.abs().mean(dim=1, keepdim=True)
        box = magnitude.new_full((1, 1, self.kernel_size, self.kernel_size), self.kernel_size**-2)
        border = self.dilation * (self.kernel_size - 1) // 2
        return F.conv2d(magnitude, box, None, self.stride, border, self.dilation)


class BinaryConv2d(nn.Module):
    """y = s · (sign(x) ⊛ sign(W)), "same" size at stride 1, for `bases` sets of weights at once.

    With real inputs (BWN) it is y = s · (x ⊛ sign(W)), with the input's scaling map (XNOR-Net)
    y = s · K ⊙ (sign(x) ⊛ sign(W)), K the mean of |x| over the channels and under the kernel.

    The bases lie one after another along the channels, so that one grouped convolution serves
    them all; only bases with different dilations are computed one by one.

    Args:
        in_channels: C_in of one base.
        out_channels: C_out of one base.
        kernel_size: odd; the border is dilation·(kernel_size − 1)/2 pixels wide on every side.
        stride: in pixels.
        dilation: one rate for all bases, or one for each base (BPAC).
        bases: K.
        shared_input: whether all bases read the same C_in channels or each its own.
        padding_value: what the border holds after the sign: +1 (a legal bit, the released
            Group-Net), −1 or 0.
        scale: the factor s, see `binseg.nn.binarize.weight_scale`.
        weight_gradient: see `binseg.nn.binarize.binarize_weight`.
        gradient: the surrogate gradient of the activations' sign.
        clip: where the clipped gradients of activations and weights end.
        threshold: what the activations are compared with, see `binseg.nn.activations`.
        reduction: of an adaptive threshold.
        real_input: leave the input as it is (Rastegari et al. 2016, section 3.1); its border is 0.
        input_scale: multiply with the map K (the same, section 3.2).
        shifted_weight: binarize `shift_weight` of the latent weights.
        centered_weight: whether `binseg.training` centers and clamps the latent weights after
            each step, see `binseg.nn.binarize.center_and_clamp_`.

    Shapes:
        x: (N, K·C_in, H, W), or (N, C_in, H, W) with `shared_input`.
        returns (N, K·C_out, ⌈H / stride⌉, ⌈W / stride⌉).

    Attributes:
        weight: latent real weights (K·C_out, C_in, k, k).
        weight_logit: α of `shift_weight`, (K·C_out,), or None.
        weight_mode: "binary", or "real" for the first training step.
        precision: bits of a weight in mode "binary".

    Raises:
        BinsegError: an even kernel, a padding value other than −1, 0 or 1, a list of dilations
            whose length is not K, an unknown scale or gradient, or options that exclude each other.
    """

    precision = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int | Sequence[int] = 1,
        bases: int = 1,
        shared_input: bool = False,
        padding_value: float = 1.0,
        scale: WeightScale = "layer",
        weight_gradient: WeightGradient = "identity",
        gradient: ActivationGradient = "approx",
        clip: float = 1.0,
        threshold: Threshold = "zero",
        reduction: int = 8,
        real_input: bool = False,
        input_scale: bool = False,
        shifted_weight: bool = False,
        centered_weight: bool = False,
    ) -> None:
        super().__init__()
        dilations = (dilation,) * bases if isinstance(dilation, int) else tuple(dilation)
        if kernel_size % 2 == 0:
            raise BinsegError(f"a binary convolution needs an odd kernel size, not {kernel_size}")
        if padding_value not in (-1, 0, 1):
            raise BinsegError(f"the padding value must be -1, 0 or 1, not {padding_value}")
        if len(dilations) != bases:
            raise BinsegError(f"{len(dilations)} dilations were given for {bases} bases")
        if scale not in get_args(WeightScale):
            raise unknown_name("weight scale", scale, get_args(WeightScale))
        if weight_gradient not in get_args(WeightGradient):
            raise unknown_name("weight gradient", weight_gradient, get_args(WeightGradient))
        if weight_gradient == "xnor" and scale != "filter":
            raise BinsegError(f'the weight gradient "xnor" needs the scale "filter", not "{scale}"')
        if input_scale and (real_input or bases > 1):
            raise BinsegError("a scaling map needs one base and a binary input")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilations = dilations
        self.bases = bases
        self.shared_input = shared_input
        self.padding_value = 0.0 if real_input else float(padding_value)
        self.scale: WeightScale = scale
        self.weight_gradient: WeightGradient = weight_gradient
        self.clip = clip
        self.temperature = 1.0  # of the weight gradient "ede"; a schedule sets it
        self.real_input = real_input
        self.input_scale = input_scale
        self.centered_weight = centered_weight
        self.weight_mode: WeightMode = "binary"
        self.binarize_input: nn.Module = (
            nn.Identity()
            if real_input
            else create_activation(
                threshold,
                in_channels * (1 if shared_input else bases),
                gradient,
                clip=clip,
                reduction=reduction,
            )
        )
        self.weight = nn.Parameter(
            torch.empty(bases * out_channels, in_channels, kernel_size, kernel_size)
        )
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="linear")
        self.weight_logit = (
            nn.Parameter(torch.zeros(bases * out_channels)) if shifted_weight else None
        )
        self.scaling_map = ScalingMap(kernel_size, stride, dilations[0]) if input_scale else None
        if centered_weight:
            center_and_clamp_(self.weight)

    @property
    def latent_weight(self) -> Tensor:
        """What the sign of the weights is taken of, (K·C_out, C_in, k, k)."""
        if self.weight_logit is None:
            return self.weight
        return shift_weight(self.weight, self.weight_logit)

    def forward(self, x: Tensor) -> Tensor:
        y = self._convolve_signs(x)
        return y if self.scaling_map is None else y * self.scaling_map(x)

    def _convolve_signs(self, x: Tensor) -> Tensor:
        x = self.binarize_input(x)
        if self.weight_mode == "real":
            return self._convolve(x, self.weight)
        if self.training:
            weight = binarize_weight(
                self.latent_weight,
                scale=self.scale,
                gradient=self.weight_gradient,
                bases=self.bases,
                clip=self.clip,
                temperature=self.temperature,
            )
            return self._convolve(x, weight)
        # The same product, scaled after the sum: sums of ±1 are exact integers in float32, so that
        # the packed network's integers can equal them.
        y = self._convolve(x, sign(self.latent_weight))
        factor = weight_scale(self.latent_weight, self.scale, self.bases)
        return y if factor is None else y * factor.view(1, -1, 1, 1).to(y.dtype)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        if len(set(self.dilations)) == 1:
            groups = 1 if self.shared_input else self.bases
            return self._pad_and_convolve(x, weight, self.dilations[0], groups)
        inputs = [x] * self.bases if self.shared_input else x.chunk(self.bases, dim=1)
        weights = weight.chunk(self.bases, dim=0)
        return torch.cat(
            [
                self._pad_and_convolve(*each, groups=1)
                for each in zip(inputs, weights, self.dilations, strict=True)
            ],
            dim=1,
        )

    def _pad_and_convolve(self, x: Tensor, weight: Tensor, dilation: int, groups: int) -> Tensor:
        border = dilation * (self.kernel_size - 1) // 2
        if self.padding_value == 0 or border == 0:
            return F.conv2d(x, weight, None, self.stride, border, dilation, groups)
        # x ⊛ W = (x − v) ⊛ W + v·ΣW, and in x − v a border of v is a border of zeros, which the
        # library pads for nothing; a padded copy of x made the step up to 1.9 times slower. In
        # bf16 the two parts of the weight's gradient are rounded apart, which costs some accuracy
        # where the incoming gradients of a channel have one sign.
        bias = self.padding_value * weight.sum(dim=(1, 2, 3))
        return F.conv2d(x - self.padding_value, weight, bias, self.stride, border, dilation, groups)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, dilations={self.dilations}, bases={self.bases}, "
            f"shared_input={self.shared_input}, padding_value={self.padding_value:g}, "
            f"scale={self.scale}"
        )


def set_binarization(
    model: nn.Module, *, activations: ActivationMode = "sign", weights: WeightMode = "binary"
) -> None:
    """Switch every binary layer of `model`, for the steps of a two-step training.

    Args:
        model: any module; layers that are not binary stay as they are.
        activations: what stands in for the sign of the activations.
        weights: "binary", or "real" to convolve with the latent weights themselves.
    """
    for module in model.modules():
        if isinstance(module, BinaryActivation):
            module.mode = activations
        elif isinstance(module, BinaryConv2d):
            module.weight_mode = weights
