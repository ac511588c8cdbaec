"""Packed files: small, equal bit for bit after a round trip, and hard to fool."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from trained_networks import pictures, trained

from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.kernels.shape import ConvShape
from binseg.nn.layers import BinaryConv2d
from binseg.packed.conv import PackedConv
from binseg.packed.file import load, read_header, save
from binseg.packed.fold import pack
from binseg.packed.folding import Folding
from binseg.packed.modules import PackedSegmenter

LABELS = LabelTable(
    "five",
    ("a", "b", "c", "d", "e"),
    tuple((50 * i, 0, 0) for i in range(5)),
    {i: i for i in range(5)},
)
OPTIONS = {"bases": 2, "downsample": "real", "head": "fcn8s", "nonlinearity": "prelu"}


def write(path, rest="fp32", **options):
    packed = pack(trained(**{**OPTIONS, **options}), rest=rest, calibration=[pictures()])
    save(path, packed, LABELS, Preprocessing(short_side=90), training={"val_miou": 0.5})
    return packed


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "packed.safetensors", rest="int8")
    return tmp_path / "packed.safetensors"


@pytest.mark.parametrize("rest", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"downsample": "binary", "stem": "grouped3", "width": 16},
        {"name": "groupnet50", "width": 4, "bases": 3, "merge": "mean"},
        {"bases": 1, "width": 20, "nonlinearity": "tanh"},
    ],
    ids=str,
)
def test_round_trip_bit_for_bit(tmp_path, rest, options):
    path = tmp_path / "packed.safetensors"
    packed = write(path, rest, **options)
    loaded = load(path)
    assert isinstance(loaded.model, PackedSegmenter)
    assert loaded.labels == LABELS
    assert loaded.preprocessing == Preprocessing(short_side=90)
    assert loaded.header["kind"] == "packed"
    assert loaded.header["rest"] == loaded.model.rest == rest
    assert loaded.header["training"] == {"val_miou": 0.5}
    assert loaded.model.architecture == packed.architecture
    before, after = packed.state_dict(), loaded.model.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype, name
        assert torch.equal(tensor, after[name]), name
    x = pictures()
    with torch.inference_mode():
        assert torch.equal(loaded.model(x), packed(x))


def test_no_trained_network_is_made_for_it(path, monkeypatch):
    for kind in (BinaryConv2d, nn.Conv2d):

        def without_memory(self, *args, own=kind.__init__, **kwargs):
            own(self, *args, **kwargs)
            assert self.weight.is_meta

        monkeypatch.setattr(kind, "__init__", without_memory)
    assert not list(load(path).model.parameters())


def test_loading_does_not_load_torchs_compiler(path):
    script = (
        "import sys, binseg; binseg.load(sys.argv[1]); heavy = {'torch._dynamo', 'lightning', "
        "'torch._inductor', 'albumentations', 'matplotlib', 'sympy', 'torchvision'}; "
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_bits_lie_in_plain_order():
    torch.manual_seed(0)
    unit = nn.Sequential(BinaryConv2d(5, 3, 3, bases=2), nn.ReLU(), nn.BatchNorm2d(6)).eval()
    packed = PackedConv.of(unit, Folding("fp32"), threshold=True)
    given = packed.give()
    assert {name: (tuple(t.shape), t.dtype) for name, t in given.items()} == {
        "bits": ((34,), torch.uint8),  # 6 · 5 · 9 bits
        "low": ((6,), torch.int16),
        "span": ((6,), torch.int16),
    }
    bits = np.unpackbits(given["bits"].numpy(), bitorder="little")[:270]
    expected = (unit[0].weight >= 0).permute(0, 2, 3, 1).flatten().numpy()
    assert np.array_equal(bits.astype(bool), expected)


def test_thresholds_take_32_bits_where_they_must():
    shape = ConvShape(4096, 2, (3, 3), 1, (1,), 1)
    conv = PackedConv(shape, threshold=True)
    conv.fill("weight", torch.zeros(conv.weight.shape, dtype=torch.int32))
    conv.fill("low", torch.tensor([36000, -5]))
    conv.fill("span", torch.tensor([0, 20]))
    given = conv.give()
    assert given["low"].dtype == torch.int32
    assert given["span"].dtype == torch.int16
    other = PackedConv(shape, threshold=True)
    other.take(given)
    assert torch.equal(other.low, conv.low)
    assert torch.equal(other.span, conv.span)


def test_a_packed_file_is_small(tmp_path):
    model = trained(bases=2, width=64)
    packed = pack(model)
    save(tmp_path / "float.safetensors", model, LABELS, Preprocessing())
    save(tmp_path / "packed.safetensors", packed, LABELS, Preprocessing())
    binary = sum(m.weight.numel() for m in model.modules() if isinstance(m, BinaryConv2d))
    real = sum(p.numel() for p in model.head.parameters()) + 3 * 49 * 64
    size = (tmp_path / "packed.safetensors").stat().st_size
    assert size < 1.1 * (binary / 8 + 4 * real)
    assert size < (tmp_path / "float.safetensors").stat().st_size / 15


def test_labels_must_fit(tmp_path):
    with pytest.raises(BinsegError, match="5 classes"):
        save(
            tmp_path / "m.safetensors",
            pack(trained()),
            LabelTable("two", ("a", "b"), ((0, 0, 0), (1, 1, 1)), {0: 0, 1: 1}),
            Preprocessing(),
        )


# --- bad files ---


def change(path, tensors=None, **header):
    """Write the file again with other tensors (None: without it) or another header."""
    found, told = load_file(path), read_header(path)
    for name, value in (tensors or {}).items():
        if value is None:
            del found[name]
        else:
            found[name] = value(found[name]) if callable(value) else value
    told.update(header)
    save_file(found, path, metadata={"binseg": json.dumps(told)})


LOW, SPAN = "body.blocks.0.conv1.low", "body.blocks.0.conv1.span"
BITS, CURVE = "body.blocks.0.conv1.bits", "body.blocks.0.conv2.curve"
WEIGHT, INPUT = "head.middle.weight", "head.middle.input"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({BITS: None}, rf"{BITS} is missing"),
        ({"other": torch.zeros(1)}, "other is unknown"),
        ({BITS: lambda t: t[:-1].clone()}, rf"{BITS} is \(143,\), not \(144,\)"),
        ({BITS: lambda t: t.int()}, rf"{BITS} is torch.int32, not torch.uint8"),
        ({LOW: lambda t: t.long()}, rf"{LOW} is torch.int64"),
        ({LOW: lambda t: t.float()}, rf"{LOW} is torch.float32"),
        ({LOW: lambda t: t - 10000}, r"body\.blocks\.0\.conv1: thresholds are out of range"),
        ({SPAN: lambda t: t - 10000}, "thresholds are out of range"),
        ({SPAN: lambda t: t.int() * 0 - 2**31}, "thresholds are out of range"),
        ({CURVE: lambda t: t * torch.nan}, "curve holds nan or inf"),
        ({CURVE: lambda t: t.double()}, "is torch.float64"),
        ({"body.blocks.1.gates": lambda t: t / 0}, "gates holds nan or inf"),
        ({WEIGHT: lambda t: t.float()}, "is torch.float32, not torch.int8"),
        ({WEIGHT: lambda t: t[..., :1].clone()}, rf"{WEIGHT} is \(16, 64, 3, 1\)"),
        ({INPUT: torch.tensor([1.0, 256.0]).double()}, "head.middle: no scale and zero point"),
        ({INPUT: torch.tensor([1.0, 0.5]).double()}, "no scale and zero point"),
        ({INPUT: torch.tensor([1.0, -1.0]).double()}, "no scale and zero point"),
        ({INPUT: torch.tensor([0.0, 3.0]).double()}, "no scale and zero point"),
        ({INPUT: torch.tensor([torch.nan, 3.0]).double()}, "no scale and zero point"),
        ({INPUT: torch.tensor([1.0, torch.inf]).double()}, "no scale and zero point"),
    ],
)
def test_tampered_tensors_are_refused(path, tensors, message):
    change(path, tensors)
    check_refused(path, message)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"rest": "fp16"}, "unknown rest 'fp16'"),
        ({"rest": 3}, "unknown rest '3'"),
        ({"rest": ["int8"]}, "rest"),
        ({"rest": "fp32"}, "do not fit the network"),
        ({"kind": "pickled"}, "kind 'pickled' are unknown"),
        ({"kind": "float"}, "do not fit the network"),
        ({"format": 99}, "newer binseg"),
        ({"format": float("inf")}, "header is damaged"),
        ({"architecture": {}}, "header is damaged"),
        ({"architecture": {"name": "smp_unet", "num_classes": 5}}, "unknown model 'smp_unet'"),
        ({"architecture": {"name": "groupnet18"}}, "header is damaged"),
        ({"architecture": {"name": ["groupnet18"], "num_classes": 5}}, "unknown model"),
        ({"architecture": "groupnet18"}, "header is damaged"),
        ({"labels": {}}, "label"),
        ({"preprocessing": {}}, "preprocessing"),
    ],
)
def test_tampered_headers_are_refused(path, header, message):
    change(path, **header)
    check_refused(path, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 512, "bases": 8}, "do not fit"),
        ({"width": 1024, "bases": 8}, "too many channels for 8 bits"),
        ({"width": 2**40}, "width"),
        ({"precision": "full"}, "nothing in this network is 1 bit"),
        ({"bases": "2"}, "header is damaged"),
        ({"bases": 2.5}, "header is damaged"),
        ({"padding_value": 2}, "padding value"),
        ({"num_classes": 4}, "5 labels for 4 classes"),
        ({"rates": [-1, 2]}, "rates"),
        ({"rates": [2**30, 2**30], "atrous": "bpac"}, "not supported"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_tampered_architectures_are_refused(path, options, message):
    change(path, architecture={**read_header(path)["architecture"], **options})
    check_refused(path, message)


def test_a_float_file_cannot_ask_for_the_machines_memory(tmp_path):
    path = tmp_path / "float.safetensors"
    save(path, trained(**OPTIONS), LABELS, Preprocessing())
    change(path, architecture={**read_header(path)["architecture"], "width": 1024, "bases": 8})
    check_refused(path, "do not fit the network")


def test_truncated_files_are_refused(path):
    content = path.read_bytes()
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        check_refused(path, "truncated")


def test_a_file_that_is_cut_short_while_writing_leaves_the_old_one(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(BinsegError, match="no space left"):
        write(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def check_refused(path, message):
    with pytest.raises(BinsegError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
