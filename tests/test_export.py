"""Exported files say what the network says, at any size and batch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from trained_networks import looks_trained

from binseg.cli.main import main
from binseg.compiler.pack import pack
from binseg.data.imageio import write_image
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.data.scenes import draw_scene
from binseg.export.folded import FoldedConv, folded
from binseg.export.pt2_file import ABOUT
from binseg.loaded import load, save
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import create_model
from binseg.shipped import resolve

onnx = pytest.importorskip("onnx")
SMALL = {"num_classes": 8, "width": 8}


def network(name: str = "groupnet18", **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return looks_trained(create_model(name, **SMALL, **options)).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A binary network, its twin, and images to calibrate on."""
    folder = tmp_path_factory.mktemp("export")
    labels = get_label_table("scenes")
    for name, options in (("binary", {"bases": 2}), ("twin", {"precision": "full"})):
        model = network(**options)
        save(folder / f"{name}.safetensors", model, labels, Preprocessing())
    for index in range(3):
        write_image(folder / f"image{index}.png", draw_scene(0, index, (96, 128)).image)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"bases": 2},
        {"bases": 3, "output_stride": 8, "head": "fcn"},  # a dilation for each base
        {"bases": 1, "head": "deeplabv3"},
    ],
)
def test_folded_convolutions_change_no_bit(options: dict[str, object]):
    trained = network(**options)
    x = torch.randn(1, 3, 45, 61)
    copy = folded(trained)
    count = sum(isinstance(module, BinaryConv2d) for module in trained.modules())
    assert count == sum(isinstance(module, FoldedConv) for module in copy.modules())
    assert not any(isinstance(module, BinaryConv2d) for module in copy.modules())
    with torch.inference_mode():
        assert torch.allclose(copy(x), trained(x), atol=1e-5, rtol=1e-5)


def test_onnx_of_a_binary_network(files: Path, tmp_path: Path, capsys):
    out = tmp_path / "binary.onnx"
    assert main(["export", str(files / "binary.safetensors"), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "100.000% of the pixels have the same class" in told
    assert "ONNX has no 1-bit operators" in told
    model = onnx.load(out)
    signs = [each for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8]
    values = {int(v) for each in signs for v in np.unique(onnx.numpy_helper.to_array(each))}
    assert values == {-1, 1}
    metadata = {each.key: each.value for each in model.metadata_props}
    assert json.loads(metadata["labels"])["names"] == list(get_label_table("scenes").names)
    assert json.loads(metadata["preprocessing"])["mean"] == [0.485, 0.456, 0.406]
    axes = model.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_value for axis in axes] == [0, 3, 0, 0]  # the zeros are free


@pytest.mark.openvino
@pytest.mark.parametrize("kind", ["onnx-int8", "openvino-int8"])
def test_8_bits_of_the_twin(files: Path, tmp_path: Path, capsys, kind: str):
    if kind == "openvino-int8":
        pytest.importorskip("nncf")
    out = tmp_path / ("twin.xml" if kind == "openvino-int8" else "twin.onnx")
    arguments = ["export", str(files / "twin.safetensors"), "--out", str(out), "--format", kind]
    assert main(arguments) == 1
    assert "8 bits need images to calibrate on" in capsys.readouterr().err
    assert not out.exists()
    assert main([*arguments, "--calibration", str(files / "image*.png")]) == 0
    told = capsys.readouterr().out
    equal = float(told.split("run again")[1].split(": ")[1].split("%")[0])
    assert equal > 80
    assert equal < 100  # 8 bits round


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["binary.safetensors", "--out", "x.pth"], "onnx files end in .onnx"),
        (["binary.safetensors", "--out", "x.onnx", "--format", "onnx-int8"], "1 bit already"),
        (["nothing.safetensors", "--out", "x.onnx"], "no such model file"),
    ],
)
def test_what_cannot_be_exported_is_said(files: Path, tmp_path: Path, capsys, arguments, says):
    model, flag, out, *more = arguments
    assert main(["export", str(files / model), flag, str(tmp_path / out), *more]) == 1
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_packed_network_is_not_exported(tmp_path: Path, capsys):
    packed = tmp_path / "packed.safetensors"
    packed.write_bytes(resolve("camvid-small").read_bytes())
    assert main(["export", str(packed), "--out", str(tmp_path / "x.onnx")]) == 1
    assert "give the float file that it was packed from" in capsys.readouterr().err


def test_a_packed_network_is_a_program_of_torch_for_any_batch(files, tmp_path, capsys):
    packed, out = tmp_path / "packed.safetensors", tmp_path / "packed.pt2"
    loaded = load(files / "binary.safetensors")
    save(packed, pack(loaded.model), loaded.labels, loaded.preprocessing)
    command = ["export", str(packed), "--out", str(out), "--format", "pt2"]
    assert main([*command, "--size", "[64,96]"]) == 0
    said = capsys.readouterr().out
    assert "(1 × 64 × 96, 2 × 64 × 96): 100.000% of the pixels" in said
    assert "uint8 (N, 3, 64, 96)" in said
    about = {ABOUT: ""}
    module = torch.export.load(out, extra_files=about).module()
    assert json.loads(about[ABOUT])["labels"]["names"] == list(loaded.labels.names)
    images = torch.randint(0, 256, (5, 3, 64, 96), dtype=torch.uint8)
    wanted = load(packed).model(images)
    assert torch.equal(module(images).argmax(1), wanted.argmax(1))

    float_file = str(files / "binary.safetensors")
    assert main(["export", float_file, "--out", str(out), "--format", "pt2"]) == 1
    assert "run `binseg pack" in capsys.readouterr().err
    assert main(["export", float_file, "--out", "a.onnx", "--size", "[64,96]"]) == 1
    assert "any size" in capsys.readouterr().err
