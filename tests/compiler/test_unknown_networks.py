"""Networks that binseg does not know: those of known layers pack, others name the layer."""

import pytest
import torch
import torch.nn.functional as F
from small_graphs import check, counts
from test_agreement import agree
from torch import nn
from trained_networks import images, looks_trained

from binseg.compiler.pack import pack
from binseg.errors import BinsegError
from binseg.nn.backbones.registry import Backbone
from binseg.nn.backbones.stems import create_stem
from binseg.nn.heads.fcn import FCNHead
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import BackboneSegmenter


class DenseBlock(nn.Module):
    """Bethge et al. 2020, "MeliusNet", section 4.1: new channels beside the old ones."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = BinaryConv2d(channels, growth, 3, scale="none")

    def forward(self, x):
        return torch.cat([x, self.conv(self.norm(x))], dim=1)


class ImprovementBlock(nn.Module):
    """The same: the newest channels are improved by a shortcut around a convolution of all."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.growth = growth
        self.norm = nn.BatchNorm2d(channels)
        self.conv = BinaryConv2d(channels, growth, 3, scale="none")

    def forward(self, x):
        old, new = x[:, : -self.growth], x[:, -self.growth :]
        return torch.cat([old, new + self.conv(self.norm(x))], dim=1)


class Melius(Backbone):
    def __init__(self, width: int = 16, blocks: tuple[int, ...] = (2, 2, 1)) -> None:
        super().__init__()
        self.stem = create_stem("grouped3", width)
        self.stages, self.ends = nn.ModuleList(), nn.ModuleList()
        self.channels, self.strides = [], []
        channels = width
        for stage, number in enumerate(blocks):
            layers = nn.Sequential()
            for _ in range(number):
                layers.append(DenseBlock(channels, width))
                channels += width
                layers.append(ImprovementBlock(channels, width))
            self.stages.append(layers)
            self.channels.append(channels)
            self.strides.append(4 * 2**stage)
            if stage + 1 < len(blocks):
                end = [
                    nn.BatchNorm2d(channels),
                    nn.MaxPool2d(2, ceil_mode=True),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(channels, channels // 2, 1, bias=False),
                ]
                channels //= 2
            else:
                end = [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            self.ends.append(nn.Sequential(*end))

    def forward(self, x):
        x = self.stem(x)
        maps = []
        for stage, end in zip(self.stages, self.ends, strict=True):
            x = stage(x)
            maps.append(x)
            x = end(x)
        return [*maps[:-1], x]


@pytest.mark.parametrize("other_layers", ["fp32", "bf16", "int8"])
def test_melius_net(other_layers):
    torch.manual_seed(0)
    backbone = Melius()
    head = FCNHead(backbone.channels, 5, skips=2)
    model = looks_trained(BackboneSegmenter(backbone, head, {"num_classes": 5}))
    model.train()(images(64, 96))
    model.eval()
    packed = pack(model, other_layers=other_layers, calibration=[images()])
    found = counts(packed.program)
    assert found["conv_real"] == 10  # every binary convolution
    assert found["pack_sign"] == 10  # its BatchNorm and its sign in one
    if other_layers == "fp32":
        agree(model, packed, images())
    else:
        with torch.inference_mode():
            same = packed.class_map(images()) == model.class_map(images())
        assert same.float().mean() > 0.75


class SqueezeAndExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(channels, 4), nn.Linear(4, channels)

    def forward(self, x):
        scale = torch.sigmoid(self.two(F.relu(self.one(x.mean(dim=(2, 3))))))
        return x * scale[:, :, None, None]


class Written(nn.Module):
    """A network in plain torch, with functions and methods in place of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.binary = BinaryConv2d(8, 8, 3)
        self.attention = SqueezeAndExcite(8)
        self.shift = nn.Parameter(torch.randn(1, 8, 1, 1))
        self.last = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        y = F.leaky_relu(self.first(x), 0.1)
        y = y + self.shift
        z = self.attention(self.binary(y).mul(0.5) + y)
        one, two = z.chunk(2, dim=1)
        pooled = F.avg_pool2d(F.max_pool2d(z, 3, 1, 1), 2, ceil_mode=True)
        wide = F.interpolate(pooled, size=y.shape[-2:], mode="bilinear", align_corners=False)
        return self.last(torch.cat([wide, F.hardswish(two), one.abs()], dim=1))


def test_functions_and_methods():
    torch.manual_seed(0)
    model = looks_trained(Written())
    check(pack(model).program, model, size=(21, 17))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.GELU(), r"1 \(GELU\) cannot be packed"),
        (nn.Sequential(nn.Identity(), nn.Softplus()), r"1\.1 \(Softplus\) cannot be packed"),
        (nn.AdaptiveAvgPool2d((None, 2)), r"1 \(AdaptiveAvgPool2d\) .* size must be numbers"),
        (nn.Hardtanh(0, 6), r"1 \(Hardtanh\) .* clamp to"),
        (nn.Conv2d(4, 4, 3, padding_mode="reflect"), r"1 \(Conv2d\) .* zeros"),
        (nn.Upsample(scale_factor=1.5), r"1 \(Upsample\) .* integer"),
        (nn.PixelShuffle(2), r"1 \(PixelShuffle\) cannot be packed"),
    ],
    ids=str,
)
def test_unknown_layers_are_named(layer, message):
    model = nn.Sequential(BinaryConv2d(3, 4, 3), layer)
    with pytest.raises(BinsegError, match=message) as caught:
        pack(model)
    assert "\n" not in str(caught.value)


class Depends(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


class Sorts(nn.Module):
    def forward(self, x):
        return x.sort(dim=1)[0]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Depends(), r"1 \(Depends\) cannot be packed: its code depends on values"),
        (Sorts(), r"1\.sort \(sort\) cannot be packed"),
    ],
)
def test_code_that_cannot_be_followed_is_named(layer, message):
    with pytest.raises(BinsegError, match=message):
        pack(nn.Sequential(BinaryConv2d(3, 4, 3), layer))


def test_layers_that_work_in_place_change_what_later_readers_see():
    class Later(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = BinaryConv2d(3, 4, 1), nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.conv(x)
            z = self.act(y)
            return y + z  # y was changed

    torch.manual_seed(0)
    model = Later().eval()
    check(pack(model).program, model)
