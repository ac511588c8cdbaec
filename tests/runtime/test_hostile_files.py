"""Damaged and hostile model files are refused with one line; none brings the process down.

tools/fuzz_model_files.py does the same with thousands of files under the sanitizers.
"""

import json
import struct

import numpy as np
import pytest
from model_files import file_of, model_file, small_programs, with_checksum
from mutations import mutations
from random_programs import random_program

from binseg.program.builder import ProgramBuilder
from binseg.runtime.library import ImageError, ModelError, Network

IMAGE = np.full((9, 11, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def file() -> bytes:
    return model_file(random_program(1)[0])


def parts(file: bytes) -> tuple[dict, dict, bytes]:
    """Outer header, inner header, data."""
    length = struct.unpack("<Q", file[:8])[0]
    outer = json.loads(file[8 : 8 + length])
    return outer, json.loads(outer["__metadata__"]["binseg"]), file[8 + length :]


def joined(outer: dict, inner: dict, data: bytes) -> bytes:
    outer["__metadata__"]["binseg"] = json.dumps(inner)
    text = json.dumps(outer, separators=(",", ":")).encode()
    return with_checksum(struct.pack("<Q", len(text)) + text + data)


def test_a_changed_byte_anywhere_is_noticed(file):
    for at in range(0, len(file), max(1, len(file) // 400)):
        changed = bytearray(file)
        changed[at] ^= 0x10
        with pytest.raises(ModelError):
            Network(bytes(changed))


def test_a_file_cut_short_anywhere_is_refused(file):
    for length in range(0, len(file), max(1, len(file) // 60)):
        with pytest.raises(ModelError):
            Network(file[:length])
        with pytest.raises(ModelError):
            Network(with_checksum(file[:length]))


def test_hundreds_of_damaged_files_with_a_checksum_that_fits():
    files = [model_file(random_program(seed)[0]) for seed in range(2)]
    files += [model_file(program) for seed in range(3) for program in small_programs(seed)]
    messages, opened = [], 0
    for damaged in mutations(files, 500, seed=3):
        try:
            network = Network(damaged, threads=2)
            opened += 1
            assert network.segment(IMAGE).shape == (9, 11)
        except (ModelError, ImageError) as error:
            messages.append(str(error))
    assert opened > 10  # values of weights may change without harm
    assert len(messages) > 200
    assert all(message and "\n" not in message for message in messages)


def two_affines() -> dict:
    """A program of two operators, as JSON, and its tensors."""
    builder = ProgramBuilder()
    tensor = builder.tensor("t", np.ones(3, np.float32))
    (x,) = builder.add("normalize", [0], ["real"], tensors={"scale": tensor, "shift": tensor})
    (y,) = builder.add("affine", [x], ["real"], tensors={"scale": tensor, "bias": tensor})
    return builder.build(y).to_json()


def damaged_program(change) -> bytes:
    program = two_affines()
    tensors = {"t": (np.ones(3, np.float32), "F32")}
    change(program, tensors)
    return file_of(
        {
            "format": 2,
            "kind": "packed",
            "program": program,
            "preprocessing": {"mean": [0, 0, 0], "std": [1, 1, 1]},
        },
        tensors,
    )


def test_the_undamaged_program_opens():
    assert Network(damaged_program(lambda program, tensors: None)).classes == 3


def _set(index, key, value):
    def change(program, tensors):
        program["operators"][index][key] = value

    return change


def _top(key, value):
    def change(program, tensors):
        program[key] = value

    return change


def _tensor(name, array, dtype):
    def change(program, tensors):
        tensors[name] = (array, dtype)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set(0, "in", [2]), "no operator before it makes"),  # a cycle
        (_set(1, "in", [2]), "no operator before it makes"),  # of one operator
        (_set(1, "in", [0]), "wrong kind"),
        (_set(1, "in", [-1]), "no operator before it makes"),
        (_set(1, "in", [65536]), "no operator before it makes"),
        (_set(1, "in", [1.5]), "no operator before it makes"),
        (_set(1, "in", []), "reads"),
        (_set(1, "in", [1, 1, 1]), "reads"),
        (_set(1, "in", {}), "'in'"),
        (_set(1, "out", {"real": 1}), "exists already"),
        (_set(1, "out", {"real": 0}), "value"),
        (_set(1, "out", {"real": 65536}), "value"),
        (_set(1, "out", {}), "no output"),
        (_set(1, "out", {"merged": 2}), "no output 'merged'"),
        (_set(1, "out", {"real": 2, "bits": 2}), "twice"),
        (_set(1, "out", {"real": 2, "bits": 3}), "never read"),
        (_set(1, "op", "fly"), "unknown"),
        (_set(1, "op", 7), "'op'"),
        (_set(1, "speed", 7), "no use for"),
        (_set(1, "act", "fly"), "'act'"),
        (_set(1, "act", "prelu"), "lacks the tensor 'slope'"),
        (_set(1, "dtype", "f64"), "'dtype'"),
        (_set(1, "tensors", {"scale": "t"}), "lacks the tensor 'bias'"),
        (_set(1, "tensors", {"scale": "t", "bias": "missing"}), "missing from the file"),
        (_set(1, "tensors", {"scale": "t", "bias": 3}), "lacks"),
        (_set(1, "tensors", {"scale": "t", "bias": "t", "slope": "t"}), "no use for"),
        (_set(1, "tensors", []), "'tensors'"),
        (_tensor("more", np.ones(2, np.float32), "F32"), "never used"),
        (_tensor("t", np.ones(2, np.float32), "F32"), "shape"),
        (_tensor("t", np.ones(0, np.float32), "F32"), "shape"),
        (_tensor("t", np.ones(3, np.int32), "I32"), "dtype"),
        (_tensor("t", np.float32([1, np.nan, 1]), "F32"), "nan"),
        (_tensor("t", np.float32([1, np.inf, 1]), "F32"), "nan or inf"),
        (_tensor("t", np.ones(3, np.float64), "F64"), "dtype"),
        (_top("output", 0), "not real"),
        (_top("output", 3), "output"),
        (_top("output", -1), "output"),
        (_top("output", 1e300), "output"),
        (_top("output", 1), "never read"),
        (_top("version", 2), "version"),
        (_top("operators", {}), "operators"),
        (_top("more", 1), "operators"),
    ],
)
def test_programs_that_break_the_definition(change, words):
    with pytest.raises(ModelError, match=words):
        Network(damaged_program(change))


def steep(slope: float) -> bytes:
    """A model file whose scores are slopes times sums of -1 to 1."""
    builder = ProgramBuilder()
    one = builder.tensor("one", np.ones(3, np.float32))
    builder.tensor("weight", np.uint8([0b101]))
    builder.tensor("curve", np.float32([[slope, 1, -slope], [slope, slope, 1], [0, 0, 0]]))
    tensors = {"scale": one, "shift": one}
    (x,) = builder.add("normalize", [0], ["real"], tensors=tensors)
    (x,) = builder.add("slice", [x], ["bits"], from_=0, to=1)
    (x,) = builder.add(
        "conv_real", [x], ["real"], tensors={"weight": "weight", "curve": "curve"}, kernel=[1, 1],
        stride=1, dilations=[1], padding=1, in_channels=1, out_channels=3,
    )  # fmt: skip
    return model_file(builder.build(x))


def test_slopes_that_kernels_cannot_double(isa):
    scores = Network(steep(2.0**126), isa=isa).scores(IMAGE)
    assert np.isfinite(scores).all()
    assert scores[0, 0].tolist() == [2.0**126, -(2.0**126), -(2.0**126)]
    outer, inner, data = parts(steep(2.0**126))
    begin, _ = outer["curve"]["data_offsets"]
    for at, slope in ((1, 2.0**126 + 2.0**103), (5, -3e38)):
        changed = bytearray(data)
        struct.pack_into("<f", changed, begin + 4 * at, slope)
        with pytest.raises(ModelError, match="slopes beyond"):
            Network(joined(outer, inner, bytes(changed)), isa=isa)


def test_sizes_that_overflow(file):
    outer, inner, data = parts(file)
    keys = {"kernel", "stride", "in_channels", "out_channels", "groups", "size", "pads"}
    for number in (2**31, 2**64, -1):
        for operator in inner["program"]["operators"]:
            for key in keys & operator.keys():
                old = operator[key]
                operator[key] = [number] * len(old) if isinstance(old, list) else number
                with pytest.raises(ModelError):
                    Network(joined(outer, inner, data))
                operator[key] = old
    assert Network(joined(outer, inner, data)).classes


@pytest.mark.parametrize(
    "tensor",
    [
        {"shape": [2**62, 2**62]},
        {"shape": [2**40]},
        {"shape": [-3]},
        {"shape": [1.5]},
        {"shape": 3},
        {"shape": ["3"]},
        {"data_offsets": [0, 2**63]},
        {"data_offsets": [-8, 4]},
        {"data_offsets": [12, 0]},
        {"data_offsets": [0]},
        {"data_offsets": [1, 13]},
        {"dtype": "F8"},
        {"dtype": 7},
        {"more": 1},
    ],
)
def test_tensors_outside_the_file(tensor):
    outer, inner, data = parts(damaged_program(lambda program, tensors: None))
    outer["t"] |= tensor
    with pytest.raises(ModelError):
        Network(joined(outer, inner, data))


def test_bytes_that_belong_to_no_tensor_are_refused():
    outer, inner, data = parts(damaged_program(lambda program, tensors: None))
    with pytest.raises(ModelError, match="no tensor"):
        Network(joined(outer, inner, data + b"\0" * 4))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        '{"a":' * 40 + "1" + "}" * 40,
        "{}",
        "[]",
        "null",
        '{"__metadata__":{}}',
        '{"__metadata__":{"binseg":"{}"}}',
        '{"__metadata__":{"binseg":"{"}}',
        '{"__metadata__":{"binseg":"\\ud800"}}',
        '{"__metadata__":{"binseg":"{}","binseg":"{}"}}',
        "{}{}",
        '{"a":01}',
        '{"a":NaN}',
        '{"a":1e99999}',
        '{"a":"\\x"}',
        "\ufeff{}",
    ],
)
def test_headers_that_are_not_what_they_should_be(text):
    body = text.encode()
    with pytest.raises(ModelError):
        Network(with_checksum(struct.pack("<Q", len(body)) + body))


def test_headers_of_too_many_values_are_refused_early():
    body = b'{"a":[' + b"0," * 3_000_000 + b"0]}"
    with pytest.raises(ModelError, match="million"):
        Network(struct.pack("<Q", len(body)) + body)
    body = b" " * (17 << 20)
    with pytest.raises(ModelError, match="16 MiB"):
        Network(struct.pack("<Q", len(body)) + body)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", 1, "format"),
        ("format", 3, "format"),
        ("kind", "float", "binseg pack"),
        ("program", None, "no program"),
        ("preprocessing", None, "preprocessing"),
        ("preprocessing", {"mean": [0, 0], "std": [1, 1, 1]}, "mean"),
        ("preprocessing", {"mean": [0, 0, 0], "std": [1, 1, 1], "short_side": 0}, "short_side"),
        ("preprocessing", {"mean": [0, 0, 0], "std": [1, 1, 1], "short_side": 2.5}, "short_side"),
    ],
)
def test_files_of_other_kinds(key, value, words):
    outer, inner, data = parts(damaged_program(lambda program, tensors: None))
    inner[key] = value
    with pytest.raises(ModelError, match=words):
        Network(joined(outer, inner, data))


def test_a_checksum_is_needed():
    outer, inner, data = parts(damaged_program(lambda program, tensors: None))
    del outer["__metadata__"]["crc32"]
    with pytest.raises(ModelError, match="checksum"):
        Network(joined(outer, inner, data))
