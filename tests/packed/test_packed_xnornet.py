"""XNOR-Net and BWN, packed: they say what the trained ones say, in bits and from files."""

import pytest
import torch
from trained_networks import agree, pictures, trained

from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.kernels import dispatch
from binseg.nn.layers import BinaryConv2d
from binseg.packed.calibration import activation_ranges
from binseg.packed.conv import PackedConv
from binseg.packed.file import load, save
from binseg.packed.fold import pack
from binseg.summarize import measure_size, summary

LABELS = LabelTable(
    "five",
    ("a", "b", "c", "d", "e"),
    tuple((50 * i, 0, 0) for i in range(5)),
    {i: i for i in range(5)},
)
XNOR = [
    {"name": "xnornet18"},
    {"name": "xnornet18", "downsample": "binary"},
    {"name": "xnornet18", "input_scale": True, "head": "fcn8s"},
    {"name": "xnornet18", "input_scale": True, "downsample": "binary", "output_stride": 16},
    {"name": "xnornet18", "padding_value": 0, "head": "fcn32s"},
    {"name": "xnornet18", "padding_value": -1, "head": "fcn16s", "width": 20},
    {"name": "xnornet34", "stem": "grouped3", "width": 16},
    {"name": "xnornet18", "scale": "none", "weight_gradient": "clip"},
]
BWN = [
    {"name": "bwn18"},
    {"name": "bwn18", "downsample": "binary", "head": "fcn8s"},
    {"name": "bwn18", "output_stride": 32, "scale": "none", "weight_gradient": "clip"},
    {"name": "bwn34", "stem": "grouped3", "width": 16, "head": "fcn16s"},
]


@pytest.mark.parametrize("options", XNOR + BWN, ids=str)
def test_same_logits(options):
    model = trained(seed=len(str(options)), **options)
    agree(model, pack(model), pictures())


@pytest.mark.parametrize("options", [XNOR[0], XNOR[3], BWN[1]], ids=str)
def test_on_the_reference_too(options):
    model = trained(**options)
    with dispatch.use("reference"):
        agree(model, pack(model), pictures(33, 40))
    # an empty batch and a single pixel
    packed = pack(model)
    agree(model, packed, torch.randn(1, 3, 1, 1))
    assert packed(torch.zeros(0, 3, 9, 9)).shape == (0, 5, 9, 9)


@pytest.mark.parametrize("rest", ["bf16", "int8"])
@pytest.mark.parametrize("options", [BWN[0], BWN[1], BWN[3]], ids=str)
def test_binary_weights_lose_little_in_low_precision(options, rest):
    model, x = trained(**options), pictures()
    packed = pack(model, rest=rest, calibration=[x])
    with torch.inference_mode():
        expected, found = model(x), packed(x)
    assert (found - expected).square().mean() < 1e-3 * expected.var()
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.98
    assert not torch.equal(found, expected)


@pytest.mark.parametrize("rest", ["bf16", "int8"])
@pytest.mark.parametrize("options", [XNOR[0], XNOR[1], XNOR[2]], ids=str)
def test_signs_turn_in_low_precision_but_not_too_many(options, rest):
    model, x = trained(**options), pictures()
    packed = pack(model, rest=rest, calibration=[x])
    with torch.inference_mode():
        same = packed(x).argmax(1) == model(x).argmax(1)
    # noise and weights of noise: thousands of values lie next to 0
    assert same.float().mean() > 0.75


@pytest.mark.parametrize(
    ("options", "damage"),
    [
        (XNOR[0], lambda body: body.stages[1][0].signs.affine.neg_()),
        (XNOR[0], lambda body: body.stages[2][1].conv1.low.add_(9)),
        (XNOR[1], lambda body: body.stages[3][0].binary_downsample.weight.bitwise_not_()),
        (XNOR[0], lambda body: body.norm.bias.add_(0.5)),
        (XNOR[2], lambda body: setattr(body.stages[0][0].conv1.scaling_map, "dilation", 2)),
        (BWN[0], lambda body: body.stages[0][1].conv2.weight.neg_()),
        (BWN[1], lambda body: body.stages[1][0].downsample.bias.add_(0.5)),
    ],
)
def test_the_comparison_can_fail(options, damage):
    model = trained(**{**options, "head": "fcn8s"})
    packed = pack(model)
    damage(packed.body)
    with pytest.raises(AssertionError):
        agree(model, packed, pictures())


def test_integers_stand_between_the_convolutions_of_a_block():
    def thresholds(**options):
        packed = pack(trained(**options))
        return [m.threshold for m in packed.modules() if isinstance(m, PackedConv)]

    assert thresholds(**XNOR[0]) == [True, False] * 8
    assert not any(thresholds(**XNOR[2]))  # the map needs the numbers


def test_only_inputs_that_are_real_are_looked_at():
    def kinds(**options):
        model = trained(**options)
        ranges = activation_ranges(model, [pictures()])
        binary = [m for m in model.modules() if isinstance(m, BinaryConv2d)]
        return len(binary), sum(isinstance(m, BinaryConv2d) for m in ranges)

    assert kinds(name="bwn18", downsample="binary") == (19, 19)
    assert kinds(name="xnornet18") == (16, 0)


@pytest.mark.parametrize("rest", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("options", [XNOR[0], XNOR[3], BWN[1]], ids=str)
def test_files(tmp_path, options, rest):
    x = pictures()
    packed = pack(trained(**options), rest=rest, calibration=[x])
    path = tmp_path / "packed.safetensors"
    save(path, packed, LABELS, Preprocessing())
    loaded = load(path).model
    for name, tensor in packed.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    with torch.inference_mode():
        assert torch.equal(loaded(x), packed(x))
    # names, shapes and dtypes take some 30 KB
    assert path.stat().st_size - measure_size(packed).packed_bytes < 40_000


@pytest.mark.parametrize("name", ["xnornet18", "bwn18"])
def test_sizes_and_operations_are_those_of_the_trained_network(name):
    model = trained(name=name, downsample="binary")
    packed = pack(model)
    binary = sum(m.weight.numel() for m in model.modules() if isinstance(m, BinaryConv2d))
    for network in (model, packed):
        assert measure_size(network).binary == binary
        total = summary(network, (45, 61)).total
        assert total.binary_parameters == binary
        # BWN adds real numbers: its products are no binary ones
        assert (total.binary_macs > 0) == (name == "xnornet18")
    one, other = (summary(network, (45, 61)).total for network in (model, packed))
    assert one.binary_macs == other.binary_macs
    assert one.real_macs == other.real_macs


@pytest.mark.parametrize("options", [XNOR[0], XNOR[2], BWN[0]], ids=str)
def test_blocks_export_for_maps_of_any_size(options):
    blocks = pack(trained(**options)).body.stages[1]
    size = (8,) if options in BWN else (1, 8)
    x = torch.randn(2, 9, 12, *size)
    auto = torch.export.Dim.AUTO
    exported = torch.export.export(blocks, (x,), dynamic_shapes=({1: auto, 2: auto},)).module()
    with torch.no_grad():
        for each in (x, torch.randn(2, 16, 20, *size)):
            assert torch.equal(exported(each), blocks(each))
