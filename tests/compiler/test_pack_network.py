"""`pack` and the networks that it makes."""

import numpy as np
import pytest
import torch
from torch import nn
from trained_networks import images, noise, trained

from binseg.compiler.pack import pack
from binseg.compiler.packed import PackedClassifier, PackedSegmenter
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.nn.backbones import list_backbones
from binseg.nn.classifier import create_classifier
from binseg.nn.layers import BinaryConv2d, set_binarization
from binseg.nn.segmenter import SmpSegmenter, create_model
from binseg.program.executor import REFERENCE, backends


def test_the_trained_network_stays_as_it_is():
    model = trained(bases=2, nonlinearity="prelu").train()
    model.backbone.stages[0].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    packed = pack(model, other_layers="int8", calibration=[images()])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not list(packed.parameters())
    assert packed.num_classes == 5
    assert packed.architecture == model.architecture
    assert packed.other_layers == "int8"


def test_what_happens_to_the_trained_network_later_changes_nothing():
    model, x = trained(bases=2), images()
    packed = pack(model)
    expected = packed(x)
    for parameter in model.parameters():
        parameter.data.zero_()
    assert torch.equal(packed(x), expected)
    assert not torch.equal(pack(trained(1, bases=2))(x), expected)


def mid_training(model):
    set_binarization(model, activations="tanh", weights="real")


def half_way(model):
    set_binarization(model, activations="sign", weights="real")


def with_nan(model):
    model.head.score[4].bias.data[0] = torch.nan


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (mid_training, r"backbone\..* is not binary yet"),
        (half_way, r"backbone\.stages\.0\.0\.unit1\.0 is not binary yet"),
        (with_nan, r"head\.score\.4\.bias holds nan"),
    ],
)
def test_a_network_that_cannot_be_packed_is_refused(harm, message):
    model = trained(bases=2)
    harm(model)
    with pytest.raises(BinsegError, match=message):
        pack(model)


def test_what_holds_no_bits_or_is_packed_is_refused():
    smp = SmpSegmenter(nn.Conv2d(3, 2, 1), {"num_classes": 2})
    teacher = create_model("smp_unet", num_classes=3, encoder="resnet18")
    for model in (trained(precision="full"), smp, teacher):
        with pytest.raises(BinsegError, match="nothing in this network is 1 bit"):
            pack(model)
    with pytest.raises(BinsegError, match="packed already"):
        pack(pack(trained()))
    with pytest.raises(BinsegError, match="did you mean 'int8'"):
        pack(trained(), other_layers="int4")


def test_the_old_name_of_an_option_works_with_a_note():
    with pytest.warns(FutureWarning, match="`rest` is now called `other_layers`"):
        packed = pack(trained(), rest="bf16")
    assert packed.other_layers == "bf16"


@pytest.mark.parametrize("calibration", [None, []])
def test_int8_needs_images(calibration):
    with pytest.raises(BinsegError, match="int8 needs images to calibrate on"):
        pack(trained(), other_layers="int8", calibration=calibration)


@pytest.mark.parametrize(
    "x", [torch.zeros(1, 4, 8, 8), torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8).double()]
)
def test_other_tensors_are_refused(x):
    packed = pack(trained())
    for call in (packed, packed.class_map, packed.scores):
        with pytest.raises(BinsegError, match="takes images"):
            call(x)


def test_bytes_and_normalised_numbers_are_the_same_images():
    preprocessing = Preprocessing(mean=(0.2, 0.5, 0.7), std=(0.1, 0.3, 0.9))
    packed = pack(trained(), preprocessing=preprocessing)
    x = torch.randint(0, 256, (2, 3, 20, 24), dtype=torch.uint8)
    assert torch.equal(packed(x), packed(preprocessing.normalize(x)))
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(preprocessing.to_bytes(preprocessing.normalize(every)), every)


@pytest.mark.parametrize("size", [(1, 1), (2, 200), (32, 33)])
def test_any_size(size):
    packed = pack(trained(bases=2, atrous="bpac", downsample="real", head="fcn8s"))
    assert packed(noise(1, *size)).shape == (1, 5, *size)
    assert packed(torch.zeros(0, 3, *size)).shape == (0, 5, *size)
    assert packed.class_map(torch.zeros(0, 3, *size)).shape == (0, *size)


def test_scores_lie_on_the_heads_grid():
    packed = pack(trained(output_stride=16))
    assert packed.scores(noise(2, 48, 80)).shape == (2, 5, 3, 5)
    assert isinstance(packed, PackedSegmenter)


def test_classifiers():
    for name in set(list_backbones(dense=False)) - set(list_backbones()):
        model = create_classifier(name, num_classes=3, width=12)
        packed = pack(model)
        assert isinstance(packed, PackedClassifier)
        assert packed.architecture == model.architecture
        assert not list(packed.parameters())
    packed = pack(create_classifier("xnornet_alexnet", num_classes=3, width=3))
    assert packed(torch.zeros(0, 3, 224, 224)).shape == (0, 3)
    with pytest.raises(BinsegError, match="does not fit this network"):
        packed(noise(1, 100, 224))


def test_every_backend_gives_the_same():
    packed, x = pack(trained(bases=2, downsample="real", head="fcn8s")), images()
    expected, ids = packed.scores(x), packed.class_map(x)
    assert backends()[-1] == REFERENCE
    for backend in backends():
        packed.run_on(backend)
        assert packed.executor.backend == backend
        assert torch.equal(packed.scores(x), expected)
        assert torch.equal(packed.class_map(x), ids)
        seconds = packed.executor.operator_seconds(packed.images(x)[0])
        assert len(seconds) == len(packed.program.operators)
        assert all(each >= 0 for each in seconds)
    with pytest.raises(BinsegError, match="backend"):
        packed.run_on("abacus")


def test_without_the_library_the_reference_runs_with_a_warning(monkeypatch):
    from binseg.program import executor
    from binseg.runtime.library import LibraryError

    packed, x = pack(trained()), images()
    expected = packed(x)

    def missing(*args, **kwargs):
        raise LibraryError("no compiler")

    monkeypatch.setattr(executor, "Network", missing)
    monkeypatch.setattr(executor, "isas", missing)
    assert backends() == [REFERENCE]
    with pytest.warns(RuntimeWarning, match="slow reference.*no compiler"):
        slow = pack(trained())
    assert slow.executor.backend == REFERENCE
    assert torch.equal(slow(x), expected)


def test_bits_lie_in_plain_order():
    torch.manual_seed(0)
    model = nn.Sequential(BinaryConv2d(3, 3, 3, bases=2, shared_input=True)).eval()
    program = pack(model).program
    (operator,) = [op for op in program.operators if op.kind == "conv_real"]
    stored = program.tensors[operator.tensors["weight"]]
    assert stored.shape == (-(-6 * 27 // 8),)
    bits = np.unpackbits(stored, bitorder="little")
    expected = (model[0].weight >= 0).permute(0, 2, 3, 1).flatten().numpy()
    assert np.array_equal(bits[: len(expected)].astype(bool), expected)
    assert not bits[len(expected) :].any()


def test_thresholds_take_32_bits_where_they_must():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4096, 1), BinaryConv2d(4096, 2, 3), BinaryConv2d(2, 2, 1)]
    wide = pack(nn.Sequential(*layers).eval()).program
    narrow = pack(nn.Sequential(BinaryConv2d(3, 2, 3), BinaryConv2d(2, 2, 1)).eval()).program
    for program, dtype in ((wide, np.int32), (narrow, np.int16)):
        (operator,) = [op for op in program.operators if op.kind == "conv_bits"]
        span = program.tensors[operator.tensors["span"]]
        assert span.dtype == dtype


def test_shifted_weights_fold_away():
    model = trained(name="sdbnn18")
    conv = model.backbone.stages[0][1].units[0].conv
    # an α that turns the sign of a weight next to 0: mean 2, weight −0.01
    conv.weight.data.fill_(2.0)
    conv.weight.data[0, 0, 0, 0] = -0.01
    name = "backbone.stages.0.1.units.0.conv.weight"
    for logit, bit in ((-50.0, 0), (50.0, 1)):
        conv.weight_logit.data.fill_(logit)
        assert pack(model).program.tensors[name][0] & 1 == bit
