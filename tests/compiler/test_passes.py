"""Each pass by itself, on graphs of a few layers."""

import pytest
import torch
from small_graphs import check, graph_of, kinds, norm, program_of
from torch import nn

from binseg.compiler.calibration import Range
from binseg.compiler.passes import (
    finish,
    folding,
    low_precision,
    merges,
    residuals,
    signs,
    stem,
    tidy,
)
from binseg.data.preprocess import Preprocessing
from binseg.nn.activations import LearntSign
from binseg.nn.bases import BaseSum, gate_branches, merge_bases
from binseg.nn.layers import BinaryConv2d
from binseg.nn.shapes import crop_to
from binseg.nn.smp_grids import padded


class Both(nn.Module):
    """Two branches of one map, added."""

    def __init__(self, one: nn.Module, two: nn.Module) -> None:
        super().__init__()
        self.one, self.two = one, two

    def forward(self, x):
        return self.one(x) + self.two(x)


class Residual(nn.Module):
    """A layer and the map before it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x) + x


# --- reading ---


def test_dropout_and_identities_leave_nothing():
    layers = [nn.Conv2d(3, 4, 1), nn.Dropout2d(0.5), nn.Identity(), nn.Dropout()]
    assert kinds(graph_of(*layers)) == ["conv"]


def test_upsampling_to_the_images_size_is_not_part_of_a_program():
    class Head(nn.Module):
        def forward(self, x, size=None):
            small = nn.functional.avg_pool2d(x, 2)
            return nn.functional.interpolate(small, size=x.shape[-2:], mode="bilinear")

    graph = graph_of(Head())
    assert kinds(graph) == ["avg_pool", "resize"]
    tidy.drop_final_resize(graph)
    graph.sweep()
    assert kinds(graph) == ["avg_pool"]


def test_another_way_of_upsampling_stays():
    for mode, options in (("nearest", {}), ("bilinear", {"align_corners": True})):

        class Head(nn.Module):
            def forward(self, x, mode=mode, options=options):
                small = nn.functional.avg_pool2d(x, 2)
                return nn.functional.interpolate(small, size=x.shape[-2:], mode=mode, **options)

        graph = graph_of(Head())
        tidy.drop_final_resize(graph)
        assert kinds(graph) == ["avg_pool", "resize"]
        check(program_of(Head()), Head())


def test_bytes_are_padded_before_they_are_normalised():
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, 2, 1)

        def forward(self, x):
            y = nn.functional.interpolate(self.conv(padded(x)), scale_factor=2, mode="nearest")
            return crop_to(y, x)

    torch.manual_seed(0)
    model = Padded()
    program = program_of(model)
    assert [op.kind for op in program.operators] == ["pad", "normalize", "conv", "resize", "crop"]
    assert "image" in program.operators[0].outputs
    check(program, model)


# --- signs ---


def test_signs_of_one_map_are_taken_once():
    model = Both(BinaryConv2d(3, 4, 3), BinaryConv2d(3, 4, 1))
    graph = graph_of(model)
    signs.take_signs(graph)
    assert kinds(graph) == ["pack_sign", "binary", "binary", "add"]
    torch.manual_seed(0)
    other = Both(BinaryConv2d(3, 4, 3, threshold="learnt"), BinaryConv2d(3, 4, 1))
    graph = graph_of(other)
    signs.take_signs(graph)
    assert len(graph.of("pack_sign")) == 2


def test_a_norm_and_a_sign_are_one_operator():
    layers = [norm(3), BinaryConv2d(3, 4, 3)]
    assert kinds(program_of(*layers)) == ["pack_sign", "conv_real"]
    check(program_of(*layers), *layers)


def test_a_norm_that_others_read_gives_its_signs_itself():
    model = Both(BinaryConv2d(3, 3, 3), nn.Identity())
    program = program_of(norm(3), model)
    assert kinds(program) == ["affine", "conv_real"]
    assert program.operators[1].outputs.keys() == {"real", "bits"}
    check(program, norm(3), model)


def test_the_mean_of_a_normalised_map_whose_signs_alone_are_read():
    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm(3)
            self.one, self.two = BinaryConv2d(3, 4, 3), BinaryConv2d(3, 4, 1)

        def forward(self, x):
            x = self.norm(x)
            pooled = self.two(x.mean(dim=(2, 3), keepdim=True))
            return torch.cat([self.one(x), pooled.expand(-1, -1, x.shape[2], x.shape[3])], dim=1)

    torch.manual_seed(0)
    model = Pooling()
    program = program_of(model)
    assert sorted(kinds(program)) == sorted(
        ["spatial_mean", "pack_sign", "conv_real", "pack_sign", "conv_real", "concat"]
    )
    check(program, model)


def test_learnt_and_adaptive_thresholds():
    torch.manual_seed(0)
    conv = BinaryConv2d(3, 4, 3, threshold="learnt")
    assert isinstance(conv.binarize_input, LearntSign)
    conv.binarize_input.shift.data.normal_()
    assert kinds(program_of(conv)) == ["pack_sign", "conv_real"]
    check(program_of(conv), conv)
    before = [norm(3), nn.ReLU()]
    program = program_of(*before, conv)
    assert kinds(program) == ["affine", "conv_real"]
    assert "threshold" in program.operators[1].tensors
    check(program, *before, conv)
    adaptive = BinaryConv2d(3, 4, 3, threshold="adaptive", reduction=1)
    assert kinds(program_of(adaptive)) == ["spatial_mean", "conv", "conv", "pack_sign", "conv_real"]
    check(program_of(adaptive), adaptive)


# --- sums with shortcuts ---


def test_the_binary_convolution_takes_the_sum():
    model = Both(nn.Sequential(BinaryConv2d(3, 4, 3), norm(4)), nn.Conv2d(3, 4, 1))
    program = program_of(model)
    assert kinds(program) == ["pack_sign", "conv", "conv_real"]
    assert len(program.operators[-1].inputs) == 2
    check(program, model)


def test_a_map_beside_itself_and_sums_of_single_pixels():
    class Twice(nn.Module):
        def forward(self, x):
            y = x * x
            return y + y

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return x + self.conv(x.mean(dim=(2, 3), keepdim=True))

    torch.manual_seed(0)
    for model in (Twice(), Mean(), Residual(Residual(nn.Conv2d(3, 3, 3, 1, 1)))):
        check(program_of(model), model)
    assert kinds(program_of(Mean())) == ["spatial_mean", "conv", "add"]


def test_what_is_bent_first_is_not_summed_before():
    model = Residual(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()))
    program = program_of(model)
    assert kinds(program) == ["conv", "add"]
    check(program, model)


# --- bases ---


class Bases(nn.Module):
    """A Group-Net block's end and the next one's start."""

    def __init__(self, lambdas: bool, gated: bool, head: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = BinaryConv2d(3, 4, 3, bases=2, shared_input=True)
        self.norm = norm(8)
        self.lambdas = nn.Parameter(torch.rand(2)) if lambdas else None
        self.theta = nn.Parameter(torch.rand(2))
        self.second = BinaryConv2d(4, 4, 3, bases=2, shared_input=not gated)
        self.gated, self.head = gated, head

    def forward(self, x):
        y = self.norm(self.first(x)) + x.mean(dim=1, keepdim=True).repeat(1, 8, 1, 1)
        m = merge_bases(y, 2, self.lambdas)
        z = gate_branches(y, m, self.theta, 2) if self.gated else m
        z = merge_bases(self.second(z), 2, None)
        return z + m if self.head else z


@pytest.mark.parametrize("lambdas", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("head", [False, True])
def test_merges_and_gates(lambdas, gated, head):
    model = Bases(lambdas, gated, head)
    program = program_of(model)
    assert kinds(program).count("conv_merge") == 2
    first = next(op for op in program.operators if op.kind == "conv_merge")
    # nobody reads the real map of a gated block here, and the merged one only the head
    assert first.outputs.keys() == {"bits"} | ({"merged" if gated else "real"} if head else set())
    check(program, model)


def test_a_sum_that_no_operator_takes():
    for merge in ("mean", "learnt"):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 1), nn.ReLU(), BaseSum(4, merge)]
        graph = graph_of(*layers)
        merges.merge_bases(graph)
        assert len(graph.of("base_sum")) == 1
        merges.lower_sums_and_gates(graph)
        assert not graph.of("base_sum", "gate", "repeat")
        check(program_of(*layers), *layers)


def test_a_gate_that_no_operator_takes():
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.theta = nn.Conv2d(3, 8, 1), nn.Parameter(torch.rand(1))

        def forward(self, x):
            y = self.conv(x)
            return gate_branches(y, merge_bases(y, 2, None), self.theta, 2)

    torch.manual_seed(0)
    model = Gated()
    check(program_of(model), model)


# --- real convolutions ---


def test_norms_fold_into_the_convolutions_around_them():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, 1, 1), norm(6), norm(6, 1), nn.Conv2d(6, 4, 1), norm(4)]
    program = program_of(*layers)
    assert kinds(program) == ["conv", "conv"]
    check(program, *layers)
    grouped = [nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, 1, 1, groups=3), norm(6)]
    assert kinds(program_of(*grouped)) == ["conv", "conv"]
    check(program_of(*grouped), *grouped)


def test_a_norm_before_a_border_stays():
    layers = [nn.ReLU(), norm(3), nn.Conv2d(3, 4, 3, 1, 1)]
    graph = graph_of(*layers)
    folding.fold_norms_before(graph, set(graph.of("conv")))
    assert kinds(graph) == ["act", "affine", "conv"]
    check(program_of(*layers), *layers)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 3, "scale": "layer"}], ids=str)
def test_bit_weights_of_real_maps(options):
    torch.manual_seed(0)
    conv = BinaryConv2d(3, 7, 3, real_input=True, **{"scale": "filter", **options})
    layers = [conv, norm(7), nn.ReLU()]
    program = program_of(*layers)
    assert kinds(program) == ["conv"]
    (operator,) = program.operators[1:]
    assert program.tensors[operator.tensors["weight"]].nbytes == -(-7 * 27 // 8)
    check(program, *layers)


def test_activations_signs_and_bytes_leave_the_operator_before():
    graph = graph_of(nn.Conv2d(3, 4, 1), nn.Hardswish(), BinaryConv2d(4, 4, 3))
    signs.take_signs(graph)
    finish.take_activations(graph)
    finish.take_signs_and_bytes(graph)
    (conv,) = graph.of("conv")
    assert conv.attributes["act"] == "hardswish"
    assert "bits" in conv.outputs
    assert not graph.of("act", "pack_sign")


def test_only_one_activation_is_taken():
    layers = [nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Sigmoid()]
    assert kinds(program_of(*layers)) == ["conv", "act"]
    check(program_of(*layers), *layers)


# --- 8 bits ---

WHOLE = Range(-10.0, 245.0)


def whole_numbers(conv: nn.Conv2d) -> nn.Conv2d:
    """Weights that 8 bits hold exactly."""
    torch.manual_seed(0)
    conv.weight.data = torch.randint(-127, 128, conv.weight.shape).float()
    conv.weight.data[:, 0, 0, 0] = 127
    return conv


class Integers(nn.Module):
    """The image as integers from −10 to 245, whatever it is normalised with."""

    def forward(self, x):
        return x * 255 - 10


RAW = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def int8_graph(*layers: nn.Module):
    """A graph after the pass to 8 bits, whose convolutions read integers from −10 to 245."""
    graph = graph_of(nn.ReLU(), *layers)
    convs = {m: WHOLE for m in layers if isinstance(m, nn.Conv2d)}
    low_precision.to_int8(graph, convs, set(), RAW)
    return graph


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("channels", "groups"), [((3, 5), 1), ((8, 16), 4), ((36, 70), 1)])
def test_int8_is_exact_on_whole_numbers(channels, groups, kernel):
    conv = whole_numbers(nn.Conv2d(*channels, kernel, 2, kernel // 2, groups=groups))
    graph = int8_graph(conv)
    (node,) = graph.of("conv_int8")
    assert graph.of("quantize")[0].attributes["bytes"] == [1.0, 10]
    assert node.attributes["border"] == 10
    x = torch.randint(-10, 246, (1, channels[0], 7, 10)).double()
    levels = node.tensors["weight"].double().permute(0, 3, 1, 2)
    padded_bytes = nn.functional.pad(x + 10, (kernel // 2,) * 4, value=10)
    sums = nn.functional.conv2d(padded_bytes, levels, stride=2)
    scale, shift = node.tensors["curve"][:, None, :, None, None]
    expected = conv.double()(x)
    torch.testing.assert_close(sums * scale + shift, expected, rtol=1e-6, atol=1e-4)


def test_the_image_is_read_as_bytes():
    """Inside the image exactly; outside lies the byte nearest to the mean."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, 2, 1)
    program = program_of(conv, nn.ReLU(), nn.Conv2d(8, 4, 1), other_layers="int8",
                         ranges={conv: Range(-2.0, 2.6)})  # fmt: skip
    (first, _) = program.operators
    assert first.kind == "conv_int8"
    assert first.inputs == (0,)
    assert first.attributes["border"] == [124, 116, 104]
    expected = program_of(conv, nn.ReLU(), nn.Conv2d(8, 4, 1))
    assert kinds(expected) == ["conv", "conv"]


def test_images_need_no_range_and_cost_only_the_weights_rounding():
    conv = nn.Conv2d(3, 8, 3, 2, 1)
    torch.manual_seed(0)
    conv.weight.data.normal_()
    last = nn.Conv2d(8, 4, 1)
    program = program_of(conv, last, other_layers="int8", ranges={conv: Range(-99.0, 99.0)})
    assert kinds(program) == ["conv_int8", "conv"]
    check(program, conv, last, rtol=0.02, atol=0.08)


def test_class_scores_and_what_feeds_them_straight_stay_float():
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
            self.middle = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), norm(8), nn.ReLU())
            self.scores = nn.Conv2d(8, 4, 1)
            self.skip = nn.Sequential(norm(8), nn.Conv2d(8, 4, 1))

        def forward(self, x):
            fine = self.body(x)
            scores = self.scores(self.middle(fine))
            wide = nn.functional.interpolate(scores, size=fine.shape[-2:], mode="bilinear")
            return wide + self.skip(fine)

    torch.manual_seed(0)
    model = Skips()
    ranges = dict.fromkeys((model.body[0], model.middle[0], model.scores), Range(-3.0, 3.0))
    program = program_of(model, other_layers="int8", ranges=ranges)
    assert kinds(program) == ["conv_int8", "conv_int8", "conv", "resize", "conv"]
    assert "bytes" in program.operators[0].outputs  # for the second convolution
    assert "real" in program.operators[0].outputs  # for the skip


def test_a_chain_of_8_bit_layers_needs_no_real_map():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
              nn.AvgPool2d(2), nn.Conv2d(8, 8, 1), nn.Tanh(), nn.Conv2d(8, 4, 1)]  # fmt: skip
    ranges = {m: Range(0.0, 2.0) for m in layers if isinstance(m, nn.Conv2d)}
    program = program_of(*layers, other_layers="int8", ranges=ranges)
    assert kinds(program) == ["conv_int8", "conv_int8", "avg_pool", "conv_int8", "conv"]
    assert [set(op.outputs) for op in program.operators] == [
        {"bytes"}, {"real"}, {"bytes"}, {"real"}, {"real"}
    ]  # fmt: skip


@pytest.mark.parametrize("act", [None, nn.ReLU(), nn.Hardtanh()], ids=str)
@pytest.mark.parametrize("after", [False, True])
def test_pooling_takes_the_maximum_of_integer_sums(act, after):
    """Gains of both signs stand before and after the maximum."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), norm(8)]
    layers += [act] if act is not None else []
    layers += [nn.MaxPool2d(3, 2, 1)]
    layers += [norm(8, 1)] if after else []
    last = nn.Conv2d(8, 4, 1)
    conv = layers[0]
    program = program_of(*layers, nn.ReLU(), last, other_layers="int8", ranges={conv: WHOLE})
    assert kinds(program)[0] == "conv_int8_pool"
    assert kinds(program).count("affine") == (after and act is not None)
    check(program, *layers, nn.ReLU(), last, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)],
        [nn.Conv2d(3, 8, 3), nn.SiLU(), nn.MaxPool2d(3, 2, 1)],  # not monotonous
        [nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, 1, ceil_mode=True)],
    ],
    ids=str,
)
def test_other_poolings_stay_by_themselves(layers):
    graph = graph_of(*layers)
    low_precision.to_int8(graph, {layers[0]: WHOLE}, set(), Preprocessing())
    stem.pool_integer_sums(graph)
    assert "conv_int8_pool" not in kinds(graph)
    assert "max_pool" in kinds(graph)


def test_depthwise_convolutions_and_sums_beyond_31_bits_stay_real():
    depthwise = nn.Conv2d(32, 32, 3, 1, 1, groups=32)
    with torch.device("meta"):
        huge = nn.Conv2d(8192, 1, 3)
    assert kinds(int8_graph(nn.Conv2d(3, 32, 1), depthwise)) == [
        "act", "quantize", "conv_int8", "conv"
    ]  # fmt: skip
    huge = huge.to_empty(device="cpu")
    huge.weight.data.zero_()
    huge.bias.data.zero_()
    assert "conv_int8" not in kinds(int8_graph(huge))


def test_bf16_weights_and_maps():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(),
              nn.Conv2d(8, 4, 1)]  # fmt: skip
    program = program_of(*layers, other_layers="bf16")
    assert len(program.bfloat16) == 2
    check(program, *layers, rtol=0.02, atol=0.02)
    program = program_of(*layers, bf16_maps=True)
    stored = [op.attributes.get("dtype") for op in program.operators]
    assert stored == ["bf16", "bf16", "bf16", None]
    check(program, *layers, rtol=0.02, atol=0.02)


def test_residuals_are_of_one_base_or_of_all():
    graph = graph_of(Both(BinaryConv2d(3, 4, 1, bases=2, shared_input=True), nn.Conv2d(3, 8, 1)))
    signs.take_signs(graph)
    residuals.take_residuals(graph)
    assert not graph.of("add")
