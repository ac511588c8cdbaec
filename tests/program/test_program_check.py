"""The checker: what breaks the definition is refused in one line, and nothing makes it crash."""

import json
from copy import deepcopy

import numpy as np
import pytest
from random_programs import random_image, random_program

from binseg.program.builder import ProgramBuilder
from binseg.program.check import check
from binseg.program.interpreter import Interpreter
from binseg.program.program import Program, ProgramError
from binseg.program.sizes import value_sizes
from binseg.program.types import ValueType

WINDOW = {"kernel": [3, 3], "stride": [1, 1], "pads": [1, 1, 1, 1]}
BITS = {"kernel": [3, 3], "stride": 1, "dilations": [1, 2], "padding": 1, "in_channels": 3,
        "out_channels": 3}  # fmt: skip


def small():
    """A program of nine operators as JSON, and its tensors."""
    shapes = {
        "normalize": {"scale": (3,), "shift": (3,)},
        "conv": {"weight": (4, 3, 3, 3), "bias": (4,)},
        "conv_real": {"curve": (3, 6), "threshold": (2,)},
        "conv_merge": {"curve": (3, 6), "lambdas": (2,), "slope": (1,)},
        "conv_int8": {"curve": (2, 3)},
    }
    rng = np.random.default_rng(0)
    tensors = {
        f"{kind}.{role}": rng.normal(size=shape).astype(np.float32)
        for kind, roles in shapes.items()
        for role, shape in roles.items()
    }
    tensors |= {
        "conv_real.weight": rng.integers(0, 256, 27).astype(np.uint8),
        "conv_bits.weight": np.append(rng.integers(0, 256, 20), 3).astype(np.uint8),
        "conv_bits.low": rng.integers(-9, 9, 6).astype(np.int32),
        "conv_bits.span": rng.integers(0, 9, 6).astype(np.int16),
        "conv_merge.weight": np.append(rng.integers(0, 256, 20), 1).astype(np.uint8),
        "conv_int8.weight": rng.integers(-9, 9, (3, 3, 3, 4)).astype(np.int8),
    }

    def operator(kind, inputs, outputs, **attributes):
        own = {n.split(".")[1]: n for n in tensors if n.split(".")[0] == kind}
        return {"op": kind, "in": inputs, "out": outputs, "tensors": own, **attributes}

    operators = [
        operator("normalize", [0], {"real": 1}),
        operator("conv", [1], {"real": 2, "bytes": 3}, bytes=[2.5, 3], **WINDOW),
        operator("pack_sign", [2], {"bits": 4}),
        operator(
            "conv_real", [4], {"real": 5, "bits": 6}, **BITS | {"stride": 2, "in_channels": 4}
        ),
        operator("conv_bits", [6], {"bits": 7}, **BITS),
        operator("conv_merge", [7, 5], {"real": 8}, act="prelu", **BITS),
        operator("conv_int8", [3], {"real": 9}, border=0, **WINDOW),
        operator("resize", [8, 9, 9], {"real": 10}, mode="bilinear"),
        operator("concat", [10, 9], {"real": 11}),
    ]
    return {"version": 1, "operators": operators, "output": 11}, tensors


def test_the_small_program_is_good():
    data, tensors = small()
    program = Program.from_json(data, tensors)
    types = check(program)
    assert types[5] == ValueType("real", 6)
    assert types[6] == ValueType("bits", 6, bases=2)
    assert types[3] == ValueType("bytes", 4)
    assert types[11] == ValueType("real", 6)
    sizes = value_sizes(program, 9, 5)
    assert (sizes[4], sizes[5], sizes[8], sizes[11]) == ((9, 5), (5, 3), (5, 3), (9, 5))
    assert Interpreter(program).class_map(random_image(0, 9, 5)).shape == (9, 5)


def change(index, **attributes):
    return lambda data, tensors: data["operators"][index].update(attributes)


def drop(index, key):
    return lambda data, tensors: data["operators"][index].pop(key)


def part(index, key, **items):
    return lambda data, tensors: data["operators"][index][key].update(items)


def lose(index, key, item):
    return lambda data, tensors: data["operators"][index][key].pop(item)


def swap_tensor(name, array):
    return lambda data, tensors: tensors.update({name: array})


def top(**items):
    return lambda data, tensors: data.update(items)


def both(*changes):
    def apply(data, tensors):
        for one in changes:
            one(data, tensors)

    return apply


def many_operators(data, tensors):
    data["operators"] *= 500


def unused(data, tensors):
    tensors["more"] = np.zeros(1, np.float32)


F32 = np.float32
FAULTS = [
    # the outer form
    (top(version=2), "of version 2"),
    (top(version=True), "version is true"),
    (top(operators={}), "no list of operators"),
    (top(output="11"), "output is '11'"),
    (top(more=1), "unknown key 'more'"),
    (top(operators=[3]), "operator 0: is no JSON object"),
    (change(0, op=3), "operator 0: is no JSON object with a key 'op'"),
    (change(2, **{"in": [2.0]}), "operator 2: 'in' is no list of values"),
    (change(2, **{"in": 2}), "operator 2: 'in' is no list of values"),
    (change(2, out=[4]), "operator 2: 'out' is no object"),
    (change(0, tensors={"scale": 1}), "operator 0: 'tensors' is no object"),
    (many_operators, "4500 operators, more than 4096"),
    # values
    (change(2, op="pack\nsign"), r"operator 2 is of the unknown kind 'pack\\nsign'"),
    (change(2, **{"in": [9]}), r"operator 2 \(pack_sign\) reads value 9, which no operator before"),
    (change(2, **{"in": [4]}), r"operator 2 \(pack_sign\) reads value 4, which no operator before"),
    (change(2, out={"bits": 2}), "makes value 2 a second time"),
    (change(2, out={"bits": 0}), "makes value 0, which is not between 1 and 65535"),
    (change(2, out={"bits": 65536}), "makes value 65536"),
    (change(1, out={"real": 2, "bytes": 2}), "makes value 2 a second time"),
    (change(2, out={"sign": 4}), "has no output 'sign'"),
    (change(2, out={}), "has no output"),
    (change(2, **{"in": [2, 2, 2]}), "reads 3 values, not 1 to 2"),
    (change(2, **{"in": [3]}), "reads value 3 of kind bytes, not real"),
    (change(2, **{"in": []}), "reads 0 values"),
    (change(7, **{"in": [8, 9]}), None),
    (change(8, **{"in": [9, 9]}), "value 10 is never read"),
    (top(output=5), "value 11 is never read"),
    (top(output=4), "output is of kind bits, not real"),
    (top(output=12), "no operator makes the program's output, value 12"),
    (change(8, **{"in": [9] * 90}), "270 classes, more than 255"),
    (change(8, **{"in": [9] * 30000}), "90000 channels, more than 65536"),
    # attributes
    (drop(1, "kernel"), r"operator 1 \(conv\) lacks the attribute 'kernel'"),
    (change(1, kernel=[3]), r"'kernel' = \[3\], which is not a list of 2 integers from 1 to 64"),
    (change(1, kernel=[3, 0]), "'kernel'"),
    (change(1, kernel=[3, 65]), "'kernel'"),
    (change(1, kernel=[3, 3.0]), "'kernel'"),
    (change(1, kernel=[3, True]), "'kernel'"),
    (change(1, kernel=3), "'kernel'"),
    (change(1, stride=[1, 65]), "'stride'"),
    (change(1, pads=[1, 1, 1, -1]), "'pads'"),
    (change(1, pads=[1, 1, 1, 65536]), "'pads'"),
    (change(1, dilation=[1, 4097]), "'dilation'"),
    (change(1, colour="red"), "has the attribute 'colour', which it has no use for"),
    (change(1, act="gelu"), "'act' = 'gelu', which is not one of 'relu', "),
    (change(1, act=["relu"]), "'act'"),
    (change(1, dtype="f64"), "'dtype'"),
    (both(change(8, out={"bits": 11}), top(output=9)), "value 11 is never read"),
    (change(4, dtype="bf16"), "has the attribute 'dtype', which it has no use for"),
    (change(2, bit_bases=3), "cannot make 3 bases of 4 channels"),
    (change(2, bit_bases=9), "'bit_bases' = 9, which is not an integer from 1 to 8"),
    (change(3, bit_bases=1), "reads bits of 1 × 6 channels, not of 1 or 2 × 3"),
    (change(3, dilations=[1] * 9), "'dilations'"),
    (change(3, dilations=[]), "'dilations'"),
    (change(3, padding=2), "'padding' = 2, which is not one of -1, 0, 1"),
    (change(3, padding=True), "'padding' = true"),
    (change(3, shared_weight=1), "'shared_weight' = 1, which is not true or false"),
    (change(3, in_channels=5), "reads bits of 1 × 4 channels, not of 1 or 2 × 5"),
    (change(3, out_channels=40000), "'weight' of shape"),
    (change(1, bytes=[2.5]), "'bytes'"),
    (change(1, bytes=[0, 3]), "'bytes'"),
    (change(1, bytes=[2.5, 256]), "'bytes'"),
    (change(1, bytes=[2.5, 3.0]), "'bytes'"),
    (change(1, bytes=[float("inf"), 3]), "'bytes'"),
    (drop(1, "bytes"), "lacks the attribute 'bytes'"),
    (change(6, border=256), "'border' that is not bytes"),
    (change(6, border=[0, 0, 0]), "3 numbers in 'border', not 4"),
    (change(6, border="0"), "'border' that is not bytes"),
    (drop(6, "border"), "lacks the attribute 'border'"),
    (change(6, bases=3), "cannot make 3 bases of 4 channels"),
    (change(1, groups=2), "cannot make 1 bases of 2 groups of 3 channels"),
    (drop(7, "mode"), "lacks the attribute 'mode'"),
    (change(7, mode="cubic"), "'mode'"),
    (change(7, mode="nearest", align_corners=True), "no use for"),
    (change(7, scale=[2, 2]), "reads 3 values, not 1 to 2"),
    # tensors
    (lose(0, "tensors", "scale"), "lacks the tensor 'scale'"),
    (part(0, "tensors", scale="nothing"), "tensor 'scale' named 'nothing', which is missing"),
    (part(2, "tensors", weight="conv.weight"), "tensor 'weight', which it has no use for"),
    (unused, "tensor 'more' is never used"),
    (swap_tensor("normalize.scale", np.zeros(4, F32)), r"shape \(4,\), not \(3,\)"),
    (swap_tensor("normalize.scale", np.zeros(3)), "dtype float64, not F32"),
    (swap_tensor("normalize.scale", np.zeros(3, np.uint16)), "dtype uint16, not F32"),
    (swap_tensor("normalize.scale", np.array([1, np.nan, 1], F32)), "'normalize.scale' holds nan"),
    (swap_tensor("conv.weight", np.zeros((4, 3, 3, 2), F32)), r"not \(4, 3, 3, 3\)"),
    (swap_tensor("conv.weight", np.zeros((0, 3, 3, 3), F32)), "not 4 sides above 0"),
    (swap_tensor("conv.weight", np.zeros(108, F32)), "not 4 sides above 0"),
    (swap_tensor("conv_real.weight", np.zeros(28, np.uint8)), r"\(28,\), not \(27,\)"),
    (swap_tensor("conv_real.weight", np.zeros((27, 1), np.uint8)), r"\(27, 1\), not \(27,\)"),
    (swap_tensor("conv_bits.weight", np.full(21, 255, np.uint8)), "unused bits that are not 0"),
    (swap_tensor("conv_bits.low", np.zeros(6, np.int8)), "dtype I8, not I32 or I16"),
    (swap_tensor("conv_merge.slope", np.zeros(2, F32)), r"\(2,\), not \(3,\) or a part"),
    (swap_tensor("conv_merge.slope", np.zeros(0, F32)), r"\(0,\), not \(3,\) or a part"),
    (change(5, branch_act="swish"), "'branch_act' = 'swish', which is not"),
    (change(5, branch_act="prelu"), "lacks the tensor 'branch_slope'"),
    (swap_tensor("conv_int8.curve", np.zeros((3, 3), F32)), r"\(3, 3\), not \(2, 3\)"),
    (part(5, "tensors", gates="conv_merge.lambdas"), "no use for|no output"),
    # residuals
    # one base's, that serves both
    (both(change(5, **{"in": [7, 1]}), lose(3, "out", "real")), None),
    (change(5, **{"in": [7, 2]}), "has a residual of 4 channels, not 6"),
    (change(5, **{"in": [7, 6]}), "of kind bits, not real"),
    (change(8, op="affine"), "lacks the tensor 'scale'"),
]  # fmt: skip


@pytest.mark.parametrize(("harm", "message"), FAULTS)
def test_faults_are_named_in_one_line(harm, message):
    data, tensors = small()
    harm(data, tensors)
    if message is None:
        check(Program.from_json(data, tensors))
        return
    with pytest.raises(ProgramError, match=message) as caught:
        check(Program.from_json(data, tensors))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_bfloat16_is_checked():
    data, tensors = small()
    halves = np.full((4, 3, 3, 3), 0x3F80, np.uint16)
    assert check(
        Program.from_json(data, tensors | {"conv.weight": halves}, frozenset({"conv.weight"}))
    )
    infinite = halves.copy()
    infinite[3, 2, 1, 0] = 0x7F80
    for name, array, message in (
        ("conv.weight", infinite, "holds nan"),
        ("conv.bias", np.zeros(4, F32), "is no bfloat16"),
        ("none", None, "is missing"),
    ):
        changed = tensors if array is None else tensors | {name: array}
        program = Program.from_json(data, changed, frozenset({name}))
        with pytest.raises(ProgramError, match=f"'{name}' {message}"):
            check(program)


@pytest.mark.parametrize("kind", ["conv_real", "conv_merge"])
def test_slopes_that_executors_could_not_double_are_refused(kind):
    data, tensors = small()
    curve = tensors[f"{kind}.curve"]
    curve[0, 5], curve[1, 0], curve[2, 0] = 2.0**126, -(2.0**126), 3e38
    assert check(Program.from_json(data, tensors))
    for row, slope in ((0, 2.0**126 + 2.0**103), (1, -3e38)):
        changed = curve.copy()
        changed[row, 2] = slope
        with pytest.raises(ProgramError, match="slopes beyond"):
            check(Program.from_json(data, tensors | {f"{kind}.curve": changed}))


def test_sums_beyond_31_bits_are_refused():
    builder = ProgramBuilder()
    builder.tensor("weight", np.zeros((1, 64, 64, 17), np.int8))
    builder.tensor("curve", np.zeros((2, 1), F32))
    builder.tensor("one", np.ones(3, F32))
    tensors = {"scale": "one", "shift": "one"}
    (x,) = builder.add("normalize", [0], ["real"], tensors=tensors)
    (x,) = builder.add("concat", [x] * 6, ["real"])
    (x,) = builder.add("slice", [x], ["bytes"], from_=0, to=17, bytes=[1.0, 0])
    tensors = {"weight": "weight", "curve": "curve"}
    window = {"kernel": [64, 64], "stride": [1, 1], "pads": [0] * 4}
    (x,) = builder.add("conv_int8", [x], ["real"], border=0, tensors=tensors, **window)
    with pytest.raises(ProgramError, match="69632 products, which 31 bits may not hold"):
        builder.build(x)


def test_images_that_do_not_fit():
    data, tensors = small()
    data["operators"][1].update(pads=[0, 0, 0, 0])
    program = Program.from_json(data, tensors)
    with pytest.raises(ProgramError, match=r"2×9 pixels is too small .* operator 1 \(conv\)"):
        value_sizes(program, 9, 2)
    with pytest.raises(ProgramError, match="is empty"):
        value_sizes(program, 0, 5)
    for height, width in ((65536, 1), (20000, 20000)):
        with pytest.raises(ProgramError, match="too large"):
            value_sizes(program, height, width)
    both(change(5, **{"in": [7, 1]}), lose(3, "out", "real"))(data, tensors)
    with pytest.raises(ProgramError, match=r"operator 5 \(conv_merge\) gets values of"):
        value_sizes(Program.from_json(data, tensors), 9, 9)


def test_what_is_made_may_be_too_large():
    data, tensors = small()
    data["operators"][1].update(pads=[60000, 0, 60000, 2])
    with pytest.raises(ProgramError, match=r"what operator 1 \(conv\) makes of 9×120007 pixels"):
        value_sizes(Program.from_json(data, tensors), 9, 9)


def test_the_builder_refuses_a_tensor_twice_and_numbers_values():
    builder = ProgramBuilder()
    assert builder.tensor("a", np.zeros(1, F32)) == "a"
    with pytest.raises(ProgramError, match="two tensors 'a'"):
        builder.tensor("a", np.zeros(1, F32))
    assert builder.add("conv", [builder.image], ["real", "bits"]) == (1, 2)
    assert builder.add("act", [1], ["real"]) == (3,)
    with pytest.raises(ProgramError, match="operator 0"):
        builder.build(3)


# Random harm

INTEGERS = [-1, 0, 1, 2, 3, 7, 64, 65, 255, 256, 4097, 65536, 2**31, 2**63, -(2**64)]
LISTS = [[], [1], [1, 1], [3, 3], [0, 0, 0, 0]]
VALUES = [*INTEGERS, *LISTS, None, True, False, 1.5, 1e308, "", "relu", "bf16", {}, {"real": 3}]


def harm_json(rng, data):
    """Change, drop, double or move something at a random place."""
    places = []

    def walk(container):
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, item in items:
            places.append((container, key))
            if isinstance(item, dict | list):
                walk(item)

    walk(data)
    container, key = places[int(rng.integers(len(places)))]
    match int(rng.integers(6)):
        case 0:
            del container[key]
        case 1 if isinstance(container, list):
            container.insert(key, deepcopy(container[key]))
        case 2:
            other, place = places[int(rng.integers(len(places)))]
            container[key] = deepcopy(other[place])
        case 3 if isinstance(container, dict):
            container[str(rng.choice(["act", "threshold", "real", "bits", "scale", "x"]))] = 3
        case 4 if isinstance(container[key], int):
            container[key] += int(rng.choice([-1, 1]))
        case _:
            container[key] = deepcopy(VALUES[int(rng.integers(len(VALUES)))])


def harm_tensors(rng, tensors):
    name = str(rng.choice(sorted(tensors)))
    tensor = tensors[name]
    match int(rng.integers(6)):
        case 0:
            del tensors[name]
        case 1:
            tensors[name] = tensor.reshape(-1)[:-1]
        case 2:
            tensors[name] = tensor[None]
        case 3:
            tensors[name] = np.zeros(tensor.shape, rng.choice([F32, np.int8, np.uint8, np.int64]))
        case 4:
            tensors[name] = np.full_like(tensor, 255 if tensor.dtype == np.uint8 else 1)
        case _:
            tensors[name] = tensor.reshape(-1)


@pytest.mark.parametrize("seed", range(20))
def test_harmed_programs_are_refused_or_run(seed):
    rng = np.random.default_rng(seed)
    if seed % 2:
        program, (height, width) = random_program(seed)
        text, whole, halves = json.dumps(program.to_json()), program.tensors, program.bfloat16
    else:
        data, whole = small()
        text, halves, height, width = json.dumps(data), frozenset(), 9, 7
    good = 0
    for _ in range(60):
        data, tensors = json.loads(text), dict(whole)
        for _ in range(int(rng.integers(1, 3))):
            harm_tensors(rng, tensors) if rng.random() < 0.2 else harm_json(rng, data)
        fault = None
        try:
            program = Program.from_json(data, tensors, halves)
            types, sizes = check(program), value_sizes(program, height, width)
        except ProgramError as error:
            fault = str(error)
        if fault is not None:
            assert "\n" not in fault
            continue
        good += 1
        numbers = sum(h * w * types[value].channels for value, (h, w) in sizes.items())
        if numbers < 200_000:
            values = dict(Interpreter(program).values(random_image(seed, height, width)))
            assert all(array.shape[:2] == sizes[value] for value, array in values.items())
    assert good < 40  # the harm is real
