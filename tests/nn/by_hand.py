"""Layers of binary networks in plain torch, as their definitions say."""

import torch
import torch.nn.functional as F


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0)


def alpha_signs(weight):
    """α·sign(W), α = ‖W‖₁ / n of each filter."""
    size = weight[0].numel()
    return signs(weight) * (weight.abs().sum(dim=(1, 2, 3), keepdim=True) / size)


def normalized(x, norm):
    parts = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    mean, variance, gain, shift = (part.view(1, -1, 1, 1) for part in parts)
    return (x - mean) / (variance + norm.eps).sqrt() * gain + shift


def binary(x, layer, border):
    """A convolution of signs whose border holds `border`, of real numbers where it is None."""
    inner = x if border is None else signs(x)
    width = layer.dilations[0] * (layer.kernel_size - 1) // 2
    padded = F.pad(inner, (width,) * 4, value=border or 0.0)
    return F.conv2d(padded, alpha_signs(layer.weight), None, layer.stride, 0, layer.dilations[0])
