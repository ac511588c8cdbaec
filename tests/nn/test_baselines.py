"""Published full-precision networks: their papers' sizes, and that they train and load."""

import pytest
import torch

from binseg.data.label_table import LabelTable, auto_palette
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.loaded import load, save
from binseg.nn.baselines import BASELINES
from binseg.nn.baselines.lraspp import MobileNetV3Small
from binseg.nn.baselines.stdc import STDC1Backbone
from binseg.nn.segmenter import create_model, list_models
from binseg.summarize import summary

every_baseline = pytest.mark.parametrize("name", sorted(BASELINES))


@every_baseline
def test_a_step_of_training_reaches_every_parameter(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=5)
    assert name in list_models()
    logits = model.train()(torch.randn(2, 3, 97, 129))
    assert logits.shape == (2, 5, 97, 129)
    torch.nn.functional.cross_entropy(logits, torch.ones(2, 97, 129, dtype=torch.long)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    maps = model.backbone(torch.randn(2, 3, 97, 129))
    for found, channels, stride in zip(
        maps, model.backbone.channels, model.backbone.strides, strict=True
    ):
        assert found.shape == (2, channels, -(-97 // stride), -(-129 // stride))


@every_baseline
def test_files_keep_it(name, tmp_path):
    torch.manual_seed(0)
    model = create_model(name, num_classes=4, precision="full").eval()
    labels = LabelTable("four", tuple("abcd"), auto_palette(4), {i: i for i in range(4)})
    save(tmp_path / "file.safetensors", model, labels, Preprocessing())
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(load(tmp_path / "file.safetensors").model.eval()(x), model(x))


@every_baseline
def test_options_are_refused(name):
    with pytest.raises(BinsegError, match=f"{name} has no options, so bases, head.*say null"):
        create_model(name, num_classes=4, head="fcn8s", bases=2)
    with pytest.raises(BinsegError, match="precision"):
        create_model(name, num_classes=4, precision="binary")


def test_fast_scnn_has_the_papers_parameters():
    """1.11 million for Cityscapes' 19 classes (table 5)."""
    count = sum(p.numel() for p in create_model("fast_scnn", num_classes=19).parameters())
    assert count == pytest.approx(1.11e6, rel=0.03)


def test_stdc1_has_the_papers_operations():
    """813 million at 224 × 224, by which its authors call it STDCNet813 (table 4), with the
    classifier's 1×1 convolution and two linear layers, which are no part of a segmenter."""
    macs = summary(STDC1Backbone(), (224, 224)).total.real_macs
    classifier = 1024 * 1024 * 7 * 7 + 1024 * 1024 + 1024 * 1000
    assert macs + classifier == pytest.approx(813e6, rel=0.01)


def test_mobilenet_is_cut_where_torchvision_cuts_the_large_one():
    """By torchvision's own rule: the last block before stride 16 that has stride 8, and the end."""
    from torchvision.models import mobilenet_v3_small

    features = mobilenet_v3_small(weights=None, dilated=True).features
    strided = [i for i, block in enumerate(features) if getattr(block, "_is_cn", False)]
    low = [0, *strided, len(features) - 1][-4]
    assert low == len(MobileNetV3Small().fine) - 1
