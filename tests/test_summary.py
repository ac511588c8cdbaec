"""Parameters, bytes and operations: by hand, as published, the same before and after packing."""

import io

import pytest
import torch
from rich.console import Console
from torch import nn

import binseg
from binseg.compiler.pack import pack
from binseg.data.label_table import LabelTable, auto_palette
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.loaded import save
from binseg.nn.layers import BinaryConv2d
from binseg.summarize import measure_size, summary, time_operators
from binseg.summarize.tables import WIDTH, count, summary_table, time_table
from binseg.summarize.timing import OperatorTime, real_time_share

SMALL = {"num_classes": 5, "width": 16, "output_stride": 16}


def five_classes() -> LabelTable:
    return LabelTable("five", tuple("abcde"), auto_palette(5), {i: i for i in range(5)})


def by_hand() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        BinaryConv2d(8, 6, 3, bases=2, shared_input=True),
        nn.Conv2d(12, 4, 1, groups=2, bias=False),
    )


def test_a_small_network_by_hand():
    found = summary(by_hand(), (20, 30))
    conv, norm, binary, last = found.layers
    assert [layer.name for layer in found.layers] == ["0", "1", "2", "3"]
    assert binary.kind == "BinaryConv2d"
    assert [layer.output for layer in found.layers] == [
        (1, 8, 10, 15),
        (1, 8, 10, 15),
        (1, 12, 10, 15),
        (1, 4, 10, 15),
    ]
    assert conv.parameters == {32: 3 * 8 * 9 + 8}
    assert norm.parameters == {32: 16}
    assert binary.parameters == {1: 2 * 8 * 6 * 9}
    assert last.parameters == {32: 6 * 4}
    # C_out · C_in · k² · H · W, of each base and each group
    assert (conv.binary_macs, conv.real_macs) == (0, 8 * 3 * 9 * 150)
    assert (norm.binary_macs, norm.real_macs) == (0, 0)
    assert (binary.binary_macs, binary.real_macs) == (2 * 6 * 8 * 9 * 150, 0)
    assert (last.binary_macs, last.real_macs) == (0, 4 * 6 * 150)
    assert binary.float_bytes == 4 * 864
    assert binary.packed_bytes == binary.binary_bytes == 864 // 8
    assert norm.packed_bytes == norm.float_bytes == 4 * 32

    total = found.total
    assert total.parameters == {1: 864, 32: 224 + 16 + 24}
    assert total.packed_bytes == 108 + 4 * (224 + 32 + 24)
    real, ones = 8 * 27 * 150 + 24 * 150, 864 * 150
    assert found.real_share["macs"] == pytest.approx(real / (real + ones))
    assert found.real_share["parameters"] == pytest.approx(264 / (264 + 864))
    assert found.real_share["packed_bytes"] == pytest.approx(1120 / (1120 + 108))
    size = measure_size(by_hand())
    assert (size.binary, size.real) == (864, 264)
    assert (size.float_bytes, size.packed_bytes) == (total.float_bytes, total.packed_bytes)


def test_resnet18_has_the_published_parameters_and_operations():
    """He et al. 2016: 11.69 M parameters and 1.8 G multiply-adds, the classifier's included."""
    twin = binseg.create_model(
        "groupnet18", num_classes=5, output_stride=32, precision="full", downsample="real"
    )
    total = summary(twin.backbone, (224, 224)).total
    assert total.parameters == {32: 11_689_512 - 513_000}
    assert (total.binary_macs, total.real_macs) == (0, 1_814_073_344 - 512_000)


@pytest.mark.parametrize("bases", [1, 4])
def test_group_net_multiplies_the_body_by_the_bases(bases):
    """3×3 convolutions K times, the shortcut's 1×1 once, the 7×7 stem in real numbers."""
    model = binseg.create_model("groupnet18", num_classes=5, output_stride=32, bases=bases)
    total = summary(model.backbone, (224, 224)).total
    shortcuts = 64 * 128 + 128 * 256 + 256 * 512
    body = 11_166_912 - 9_408 - shortcuts
    assert total.binary_parameters == bases * body + shortcuts
    # the branches ride in the batch of the shortcut's convolution
    at_shortcuts = bases * (64 * 128 * 28**2 + 128 * 256 * 14**2 + 256 * 512 * 7**2)
    plain = 1_813_561_344 - 9_408 * 112**2 - at_shortcuts // bases
    assert total.binary_macs == bases * plain + at_shortcuts
    assert total.real_macs == 9_408 * 112**2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bases": 3, "downsample": "real"},
        {"shortcut": "conv", "stem": "grouped3", "bases": 2},
    ],
)
def test_packing_changes_neither_bits_nor_operations(tmp_path, options):
    model = binseg.create_model("groupnet18", **SMALL, **options).eval()
    before = summary(model, (61, 83)).total
    image = torch.randn(1, 3, 64, 96)
    for other_layers, bits in (("fp32", {1, 32}), ("bf16", {1, 16, 32}), ("int8", {1, 8, 32})):
        packed = pack(model, other_layers=other_layers, calibration=[image])
        found = summary(packed, (61, 83))
        # thresholds take 16 bits, where there are any
        assert set(found.total.parameters) - {16} == bits - {16}
        assert 16 in found.total.parameters or other_layers != "bf16"
        assert found.total.binary_parameters == before.binary_parameters
        assert found.total.binary_macs == before.binary_macs
        if options.get("stem") != "grouped3":  # groups become zeros in 8 bits
            assert found.total.real_macs == before.real_macs
        size = measure_size(packed)
        assert size.packed_bytes == found.total.packed_bytes
        path = tmp_path / f"{other_layers}.safetensors"
        save(path, packed, five_classes(), Preprocessing())
        header = int.from_bytes(path.read_bytes()[:8], "little") + 8
        assert path.stat().st_size - header == found.total.packed_bytes


def test_a_scaling_map_is_real():
    """A product for each tap of the box and pixel, beside those of the bits."""
    own = {"name": "xnornet18", "num_classes": 5, "width": 8}
    plain, scaled = (binseg.create_model(**own, input_scale=on).eval() for on in (False, True))
    before, found = (summary(model, (61, 83)).total for model in (plain, scaled))
    # stages at strides 4, 8, 8 and 8 of four 3×3 convolutions each
    boxes = 9 * 4 * (16 * 21 + 3 * 8 * 11)
    assert found.binary_macs == before.binary_macs
    assert found.real_macs == before.real_macs + boxes
    packed = summary(pack(scaled), (61, 83)).total
    assert (packed.binary_macs, packed.real_macs) == (found.binary_macs, found.real_macs)


def test_the_network_stays_as_it_is():
    model = binseg.create_model("groupnet18", **SMALL).train()
    model.head.eval()
    binseg.summary(model, (32, 32))
    assert model.backbone.training
    assert not model.head.training
    assert not any(p.is_meta for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(BinsegError, match="1 to 65536 pixels"):
        binseg.summary(model, (0, 32))


def test_json_holds_every_layer():
    found = summary(by_hand(), (20, 30)).to_dict()
    assert found["image"] == [20, 30]
    assert found["layers"][2]["binary_macs"] == 864 * 150
    assert found["total"]["parameters"] == {1: 864, 32: 264}


def test_the_time_of_operators_falls_to_their_layers():
    model = binseg.create_model("groupnet18", **SMALL, bases=2).eval()
    times, whole = time_operators(pack(model), torch.randn(1, 3, 32, 48), passes=1)
    assert whole > 0
    assert [each.seconds for each in times] == sorted((t.seconds for t in times), reverse=True)
    found = {(each.layer, each.operator): each.binary for each in times}
    assert found["backbone.stages.0.0.unit1.0", "conv_bits"]
    assert found["backbone.stages.0.0.unit2.0", "conv_merge"]
    assert not found["backbone.stem.0", "conv"]
    bits = ("conv_bits", "conv_real", "conv_merge")
    assert all(binary == (operator in bits) for (_, operator), binary in found.items())
    assert len(times) == len(pack(model).program.operators)


def test_the_share_of_real_time():
    times = [
        OperatorTime("a", "conv_bits", True, 9, (1, 1, 1, 1), 0.3),
        OperatorTime("b", "x", False, 9, (1, 1, 1, 1), 0.1),
    ]
    assert real_time_share(times) == pytest.approx(0.25)
    assert real_time_share([]) == 0


def test_tables_fit_the_screen():
    found = summary(binseg.create_model("groupnet50_star", num_classes=5), (480, 640))
    times = [OperatorTime("backbone.stages.0.0.unit1.0", "conv_bits", True, 9, (1,) * 4, 0.3)] * 20
    for table in (summary_table(found, "a network"), time_table(times, 7.0, "time", rows=5)):
        console = Console(width=WIDTH, file=io.StringIO())
        console.print(table)
        text = console.file.getvalue()
        assert max(map(len, text.splitlines())) <= WIDTH
        assert "…" not in text
    assert "15 more" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, ""), (7, "7"), (999, "999"), (1000, "1.00 k"), (12_345, "12.3 k"), (999_999, "1.00 M"),
     (123_456_789, "123 M"), (1_813_561_344, "1.81 G")],
)  # fmt: skip
def test_counts_have_three_digits(value, text):
    assert count(value) == text
