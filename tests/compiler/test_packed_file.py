"""Packed files: small, equal bit for bit after a round trip, and hard to fool."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from trained_networks import images, trained

from binseg.compiler.pack import pack
from binseg.compiler.packed import PackedSegmenter
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.loaded import load, read_header, save
from binseg.model_file import read_model_file, write_model_file
from binseg.nn.float_file import write_tensors
from binseg.nn.layers import BinaryConv2d
from binseg.summarize import measure_size

LABELS = LabelTable(
    "five", tuple("abcde"), tuple((50 * i, 0, 0) for i in range(5)), {i: i for i in range(5)}
)
OPTIONS = {"bases": 2, "downsample": "real", "head": "fcn8s", "nonlinearity": "prelu"}


def write(path, other_layers="fp32", **options):
    model = trained(**{**OPTIONS, **options})
    packed = pack(model, other_layers=other_layers, calibration=[images()])
    save(path, packed, LABELS, Preprocessing(short_side=90), training={"val_miou": 0.5})
    return packed


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "packed.safetensors", "int8")
    return tmp_path / "packed.safetensors"


@pytest.mark.parametrize("other_layers", ["fp32", "bf16", "int8"])
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
def test_round_trip_bit_for_bit(tmp_path, other_layers, options):
    path = tmp_path / "packed.safetensors"
    packed = write(path, other_layers, **options)
    loaded = load(path)
    assert isinstance(loaded.model, PackedSegmenter)
    assert loaded.labels == LABELS
    assert loaded.preprocessing == Preprocessing(short_side=90)
    assert loaded.header["kind"] == "packed"
    assert loaded.header["other_layers"] == loaded.model.other_layers == other_layers
    assert loaded.header["training"]["val_miou"] == 0.5
    assert loaded.model.architecture == packed.architecture
    before, after = packed.program, loaded.model.program
    assert before.to_json() == after.to_json()
    assert before.bfloat16 == after.bfloat16
    assert before.tensors.keys() == after.tensors.keys()
    for name, tensor in before.tensors.items():
        assert tensor.dtype == after.tensors[name].dtype
        assert np.array_equal(tensor, after.tensors[name])
    x = images()
    assert torch.equal(loaded.model(x), packed(x))


@pytest.mark.parametrize("name", ["smp_unet", "smp_fpn", "smp_upernet", "smp_deeplabv3plus"])
def test_decoders_of_smp(tmp_path, name):
    path = tmp_path / "packed.safetensors"
    model = trained(name=name, encoder="binseg-groupnet18", bases=2)
    packed = pack(model, other_layers="int8", calibration=[images()])
    save(path, packed, LABELS, Preprocessing())
    x = images()
    assert torch.equal(load(path).model(x), packed(x))


def test_no_trained_network_is_made_for_it(path, monkeypatch):
    for kind in (BinaryConv2d, nn.Conv2d):

        def refuse(self, *args, **kwargs):
            raise AssertionError("a trained layer")

        monkeypatch.setattr(kind, "__init__", refuse)
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
    # what is counted is what the file holds, but for its header
    assert 0 < size - measure_size(packed).packed_bytes < 30_000


def test_labels_and_preprocessing_must_fit(tmp_path):
    packed = pack(trained())
    two = LabelTable("two", ("a", "b"), ((0, 0, 0), (1, 1, 1)), {0: 0, 1: 1})
    with pytest.raises(BinsegError, match="5 classes"):
        save(tmp_path / "m.safetensors", packed, two, Preprocessing())
    half = Preprocessing(mean=(0.5, 0.5, 0.5))
    with pytest.raises(BinsegError, match="give `preprocessing` to"):
        save(tmp_path / "m.safetensors", packed, LABELS, half)
    assert not list(tmp_path.iterdir())
    save(tmp_path / "m.safetensors", pack(trained(), preprocessing=half), LABELS, half)


# --- bad files; what programs must be is in tests/program ---


def change(path, tensors=None, **header):
    """Write the file again with other tensors or another header, and a checksum that fits."""
    file = read_model_file(path)
    write_model_file(
        path, {**file.header, **header}, {**file.tensors, **(tensors or {})}, file.bfloat16
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"kind": "pickled"}, "kind 'pickled' are unknown"),
        ({"kind": "float"}, "header is damaged"),
        ({"program": {}}, "version"),
        ({"labels": {}}, "label"),
        ({"preprocessing": {}}, "preprocessing"),
    ],
)
def test_tampered_headers_are_refused(path, header, message):
    change(path, **header)
    check_refused(path, message)


def test_tampered_tensors_are_refused(path):
    change(path, {"other": np.zeros(1, np.float32)})
    check_refused(path, "'other' is never used")


def test_a_file_of_the_first_format_is_answered_with_the_remedy(tmp_path):
    path = tmp_path / "old.safetensors"
    header = {
        "format": 1,
        "kind": "packed",
        "architecture": {},
        "labels": LABELS.to_dict(),
        "preprocessing": Preprocessing().to_dict(),
    }
    save_file({"a": np.zeros(1)}, path, metadata={"binseg": json.dumps(header)})
    check_refused(path, "binseg pack")


def test_a_float_file_cannot_ask_for_the_machines_memory(tmp_path):
    path = tmp_path / "float.safetensors"
    model = trained(**OPTIONS)
    save(path, model, LABELS, Preprocessing())
    header = read_header(path)
    architecture = {**header["architecture"], "width": 1024, "bases": 8}
    write_tensors(path, {**header, "architecture": architecture}, model.state_dict())
    check_refused(path, "do not fit the network")


def test_damaged_files_are_refused(path):
    content = path.read_bytes()
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        check_refused(path, "truncated")
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    check_refused(path, "checksum")


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
