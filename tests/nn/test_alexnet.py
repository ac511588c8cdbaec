"""AlexNet as XNOR-Net and as BWN against plain torch, its size, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from by_hand import binary, normalized
from torch import nn
from trained_networks import looks_trained

from binseg.errors import BinsegError
from binseg.nn.backbones import create_backbone, list_backbones
from binseg.nn.classifier import create_classifier
from binseg.nn.segmenter import create_model, list_models

ALEXNETS = ("xnornet_alexnet", "bwn_alexnet")


@pytest.fixture(autouse=True)
def _same_numbers():
    torch.manual_seed(0)


def test_parameters_of_alexnet():
    """The released models without the biases that BatchNorm takes away."""
    weights = (
        96 * 3 * 11**2
        + 256 * 96 * 5**2
        + 384 * 256 * 3**2
        + 384 * 384 * 3**2
        + 256 * 384 * 3**2
        + 4096 * 256 * 6**2
        + 4096 * 4096
        + 1000 * 4096
        + 1000
    )
    norms = {
        "xnornet_alexnet": 96 + (96 + 256 + 384 + 384 + 256 + 4096) + 4096,
        "bwn_alexnet": 96 + (256 + 384 + 384 + 256 + 4096 + 4096),
    }
    for name, channels in norms.items():
        with torch.device("meta"):
            net = create_classifier(name, num_classes=1000)
        assert sum(p.numel() for p in net.parameters()) == weights + 2 * channels


def flat(x):
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 1, 1)


@pytest.mark.parametrize("size", [(223, 254), (227, 224)])
@torch.no_grad()
def test_xnor_alexnet_by_hand(size):
    net = looks_trained(create_backbone("xnornet_alexnet", width=3))
    x = torch.randn(2, 3, *size)
    y = F.conv2d(x, net.stem.conv.weight, None, 4, 2)
    y = F.max_pool2d(normalized(y, net.stem.after[0]).relu(), 3, 2)
    layers = list(net.layers)
    assert [layer.conv.kernel_size for layer in layers] == [5, 3, 3, 3, 1, 1]
    assert [layer.conv.out_channels for layer in layers] == [8, 12, 12, 8, 128, 128]
    for index, layer in enumerate(layers):
        y = normalized(y, layer.before[0])
        if index == 4:
            assert y.shape[2:] == (6, 6)
            y = flat(y)
        y = binary(y, layer.conv, 1)
        if index in (0, 3):
            y = F.max_pool2d(y, 3, 2)
    expected = normalized(y, net.end[0]).relu()
    (found,) = net(x)
    assert found.shape == (2, 128, 1, 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_bwn_alexnet_by_hand():
    net = looks_trained(create_backbone("bwn_alexnet", width=3))
    x = torch.randn(2, 3, 225, 230)
    y = F.conv2d(x, net.stem.conv.weight, None, 4, 2)
    y = F.max_pool2d(normalized(y, net.stem.after[0]).relu(), 3, 2)
    for index, layer in enumerate(net.layers):
        y = binary(flat(y) if index == 4 else y, layer.conv, None)
        y = normalized(y, layer.after[0]).relu()
        if index in (0, 3):
            y = F.max_pool2d(y, 3, 2)
    torch.testing.assert_close(net(x)[0], y, rtol=1e-4, atol=1e-4)


def test_dropout_is_that_of_the_released_models():
    def dropouts(name, **options):
        net = create_backbone(name, width=3, **options)
        return [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout2d)]

    assert dropouts("bwn_alexnet") == [0.1, 0.1]
    assert dropouts("bwn_alexnet", dropout=0.3) == [0.3, 0.3]
    assert dropouts("bwn_alexnet", dropout=0.0) == []
    assert dropouts("xnornet_alexnet") == []


@pytest.mark.parametrize("size", [(222, 224), (224, 255), (32, 32)])
def test_alexnet_refuses_images_that_do_not_fit(size):
    net = create_classifier("xnornet_alexnet", num_classes=3, width=3)
    with pytest.raises(BinsegError, match=f"not {size[0]} × {size[1]}"):
        net(torch.zeros(1, 3, *size))


def test_alexnet_is_for_classification():
    assert set(ALEXNETS) <= set(list_backbones(dense=False))
    assert not set(ALEXNETS) & set(list_models())
    with pytest.raises(BinsegError, match="unknown model 'bwn_alexnet'"):
        create_model("bwn_alexnet", num_classes=3)


@pytest.mark.parametrize("name", ALEXNETS)
def test_alexnet_trains(name):
    net = create_classifier(name, num_classes=3, width=3)
    F.cross_entropy(net(torch.randn(2, 3, 224, 224)), torch.tensor([0, 2])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
