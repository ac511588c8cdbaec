"""BinaryDenseNet, packed: what the trained one says, layer by layer and as a whole."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from trained_networks import agree_on_all_pixels, pictures, trained

from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.kernels import dispatch, ops
from binseg.kernels.layout import unpack_bits
from binseg.nn.layers import BinaryConv2d
from binseg.packed.agreement import agreement
from binseg.packed.densenet import PackedDenseLayer, PackedDenseStage, PackedTransition
from binseg.packed.file import load, read_header, save
from binseg.packed.fold import pack
from binseg.packed.folding import Folding
from binseg.summarize import measure_size
from binseg.training.batchnorm import reestimate_batchnorm

NAMES = [f"binarydensenet{depth}" for depth in ("28", "37", "37_dilated", "45")]
FP32 = Folding("fp32")
LABELS = LabelTable(
    "five", tuple("abcde"), tuple((50 * i, 0, 0) for i in range(5)), {i: i for i in range(5)}
)

OPTIONS = [{"name": name, "head": head} for name in NAMES for head in ("fcn", "fcn8s")]
OPTIONS += [{"output_stride": stride, "head": "fcn16s"} for stride in (8, 16, 32)]
OPTIONS += [{"padding_value": value} for value in (-1, 0)]
OPTIONS += [{"scale": scale, "gradient": "approx"} for scale in ("layer", "filter")]
OPTIONS += [{"width": 16, "stem": "grouped3"}, {"stem": "conv7"}, {"width": 36, "head": "fcn32s"}]


def dense(seed: int = 0, **options):
    """A network that looks trained, with the statistics of its own sums."""
    model = trained(seed, **{"name": "binarydensenet28", **options})
    reestimate_batchnorm(model, [pictures(), pictures(64, 96)], lambda x: x)
    return model


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_class_maps_and_logits(options):
    model = dense(**options)
    agree_on_all_pixels(model, pack(model), pictures())


def test_on_the_reference_too():
    model = dense(head="fcn8s")
    with dispatch.use("reference"):
        agree_on_all_pixels(model, pack(model), pictures(33, 40))


@pytest.mark.parametrize("size", [(1, 1), (2, 200), (31, 33)])
def test_any_size(size):
    model = dense(head="fcn8s", output_stride=16)
    packed = pack(model)
    agree_on_all_pixels(model, packed, torch.randn(1, 3, *size))
    with torch.inference_mode():
        assert packed(torch.zeros(0, 3, *size)).shape == (0, 5, *size)


def test_the_comparison_can_fail():
    """One gain, one shift, one bit of the order of channels: each of them is seen."""
    model = dense()
    for damage in (
        lambda body: body.stages[1].layers[2].affine[0].neg_(),
        lambda body: body.stages[2].layers[0].affine[1].add_(0.5),
        lambda body: body.stages[0].layers[3].conv.weight.bitwise_not_(),
        lambda body: body.transitions[1].norm.scale.neg_(),
        lambda body: setattr(body.transitions[0], "pools", False),
        lambda body: body.norm.bias.add_(0.5),
    ):
        packed = pack(model)
        damage(packed.body)
        with pytest.raises(AssertionError):
            agree_on_all_pixels(model, packed, pictures())


# --- the parts ---


@pytest.mark.parametrize("scale", ["none", "layer", "filter"])
def test_a_layer_is_the_trained_one_to_the_last_bit(scale):
    model = dense(scale=scale, output_stride=8)
    for stage in model.backbone.stages:
        layer = stage[1]
        channels = layer.norm.num_features
        wide = 20 * torch.randn(2, 5, 7, channels + 9)
        x = wide[..., :channels]  # as a slice of the stage's map
        with torch.inference_mode():
            expected = layer(x.permute(0, 3, 1, 2))[:, channels:]
            found = PackedDenseLayer(layer, FP32)(x)
        assert torch.equal(found.permute(0, 3, 1, 2), expected)


def test_a_value_on_the_threshold_is_positive():
    """BatchNorm's own rounding decides, as it does in the trained layer."""
    layer = dense().backbone.stages[0][2]
    norm = layer.norm
    with torch.no_grad():
        zero = norm.running_mean - norm.bias * (norm.running_var + norm.eps).sqrt() / norm.weight
        near = torch.stack([zero * (1 + k * 2.0**-24) for k in range(-8, 9)])
        x = near.view(1, 1, 17, -1)
        expected = norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) >= 0
        bits = ops.pack_sign(x.unsqueeze(3), PackedDenseLayer(layer, FP32).affine)
    assert torch.equal(unpack_bits(bits, x.shape[3]).squeeze(3), expected)
    assert expected.any(dim=2).any()
    assert not expected.all()


def test_a_stage_lays_its_results_beside_its_input():
    stage = dense().backbone.stages[1]
    packed = PackedDenseStage(stage, FP32)
    x = 3 * torch.randn(2, 6, 5, stage[0].norm.num_features)
    with torch.inference_mode():
        found = packed(x)
        assert torch.equal(found.permute(0, 3, 1, 2), stage(x.permute(0, 3, 1, 2)))
        assert packed(x.bfloat16()).dtype == torch.float32
    assert found.is_contiguous()


@pytest.mark.parametrize("output_stride", [8, 32])
def test_a_transition_is_the_trained_one(output_stride):
    for end in dense(output_stride=output_stride).backbone.ends[:3]:
        assert (end[0].weight < 0).any()
        x = 20 * torch.randn(2, 7, 9, end[0].num_features)
        with torch.inference_mode():
            expected = end(x.permute(0, 3, 1, 2))
            found = PackedTransition(end, FP32)(x)
        torch.testing.assert_close(found.permute(0, 3, 1, 2), expected, rtol=1e-5, atol=1e-5)


# --- cheaper arithmetic for the rest ---


@pytest.mark.parametrize("rest", ["bf16", "int8"])
@pytest.mark.parametrize("options", [{"head": "fcn8s"}, {"width": 16, "stem": "grouped3"}], ids=str)
def test_a_cheaper_rest_is_close(options, rest):
    """Part by part: a sign that turns in one layer is another picture for the next."""
    model = dense(**options)
    x = pictures(64, 80)
    exact, cheap = pack(model), pack(model, rest=rest, calibration=[x])
    with torch.inference_mode():
        expected, found = exact.body.stem(x)[0], cheap.body.stem(x)[0]
        assert 0 < relative_error(found, expected) < 0.05
        y = expected.squeeze(3)
        for stage, one, other in zip(
            exact.body.stages, exact.body.transitions, cheap.body.transitions, strict=False
        ):
            y = stage(y)
            assert 0 < relative_error(other(y), one(y)) < 0.05
            y = one(y)
        assert agreement(model, cheap, [x]) > 0.5


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root of the mean squared difference, in deviations of what was expected."""
    return float((found - expected).square().mean().sqrt() / expected.std())


# --- files ---


@pytest.mark.parametrize("rest", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize(
    "options", [{"head": "fcn8s"}, {"name": NAMES[2], "width": 16, "stem": "grouped3"}], ids=str
)
def test_round_trip_bit_for_bit(tmp_path, rest, options, monkeypatch):
    x = pictures()
    packed = pack(dense(**options), rest=rest, calibration=[x])
    save(tmp_path / "packed.safetensors", packed, LABELS, Preprocessing())

    for kind in (BinaryConv2d, nn.Conv2d):

        def without_memory(self, *args, own=kind.__init__, **kwargs):
            own(self, *args, **kwargs)
            assert self.weight.is_meta

        monkeypatch.setattr(kind, "__init__", without_memory)
    loaded = load(tmp_path / "packed.safetensors").model
    before, after = packed.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    with torch.inference_mode():
        assert torch.equal(loaded(x), packed(x))


def test_a_float_file_keeps_the_network(tmp_path):
    model, x = dense(name=NAMES[2]), pictures()
    save(tmp_path / "float.safetensors", model, LABELS, Preprocessing())
    loaded = load(tmp_path / "float.safetensors").model
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))


def test_a_tampered_gain_is_refused(tmp_path):
    path = tmp_path / "packed.safetensors"
    save(path, pack(dense()), LABELS, Preprocessing())
    header, tensors = read_header(path), load_file(path)
    tensors["body.stages.0.layers.1.affine"] *= torch.nan
    save_file(tensors, path, metadata={"binseg": json.dumps(header)})
    with pytest.raises(BinsegError, match=r"stages\.0\.layers\.1: affine holds nan or inf"):
        load(path)


@pytest.mark.parametrize("name", NAMES)
def test_bits_are_what_was_binary(name):
    model = dense(name=name)
    size, packed = measure_size(model), measure_size(pack(model))
    assert packed.binary == size.binary
    # a gain and a shift for four numbers of a BatchNorm, and three numbers for each convolution
    assert packed.packed_bytes < size.packed_bytes


# --- export ---


def test_a_stage_is_exported_for_pictures_of_any_size():
    body = pack(dense()).body
    layers = nn.Sequential(body.stages[3], body.norm)
    x, other = torch.randn(1, 6, 5, 32), torch.randn(1, 9, 13, 32)
    auto = torch.export.Dim.AUTO
    with torch.no_grad():
        program = torch.export.export(layers, (x,), dynamic_shapes=({1: auto, 2: auto},))
        for each in (x, other):
            assert torch.equal(program.module()(each), layers(each))


def test_compile():
    packed, x = pack(dense()), pictures(40, 56)
    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(packed, backend="aot_eager", fullgraph=True)(x)
        expected = packed(x)
    scale = expected.abs().max().item()
    # the compiler takes real layers apart, which may turn a sign next to 0
    assert torch.isclose(found, expected, rtol=0, atol=1e-4 * scale).float().mean() > 0.9
