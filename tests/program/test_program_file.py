"""Programs as files."""

import numpy as np
import pytest
from random_programs import random_image, random_program

from binseg.errors import BinsegError
from binseg.model_file import read_model_file, write_model_file
from binseg.program.check import check
from binseg.program.file import read_program, write_program
from binseg.program.interpreter import Interpreter
from binseg.program.program import ProgramError

PREPROCESSING = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "short_side": None}


def labels(program):
    count = check(program)[program.output].channels
    return {"name": "some", "names": [f"class {i}" for i in range(count)]}


@pytest.fixture
def program():
    return random_program(1)[0]


@pytest.fixture
def path(tmp_path, program):
    path = tmp_path / "model.safetensors"
    write_program(path, program, labels=labels(program), preprocessing=PREPROCESSING,
                  other_layers="int8", training={"miou": 0.6}, card="# A network")  # fmt: skip
    return path


def rewrite(path, change):
    file = read_model_file(path)
    change(file.header)
    write_model_file(path, file.header, file.tensors, file.bfloat16)


@pytest.mark.parametrize("seed", range(8))
def test_a_program_comes_back(tmp_path, seed):
    program, (height, width) = random_program(seed)
    path = tmp_path / "m.safetensors"
    write_program(path, program, labels=labels(program), preprocessing=PREPROCESSING,
                  other_layers="fp32")  # fmt: skip
    again, header = read_program(path)
    assert (again.operators, again.output) == (program.operators, program.output)
    assert again.bfloat16 == program.bfloat16
    assert again.tensors.keys() == program.tensors.keys()
    for name, tensor in program.tensors.items():
        assert again.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(again.tensors[name], tensor)
    assert header["labels"] == labels(program)
    assert header["other_layers"] == "fp32"
    image = random_image(seed, height, width)
    np.testing.assert_array_equal(
        Interpreter(again).class_map(image), Interpreter(program).class_map(image)
    )


def test_what_is_for_people_comes_back(path):
    header = read_program(path)[1]
    assert header["training"] == {"miou": 0.6}
    assert header["card"] == "# A network"
    assert header["preprocessing"] == PREPROCESSING


def test_labels_must_fit(tmp_path, program):
    path = tmp_path / "m.safetensors"
    for wrong in ({"names": ["one"] * 300}, {"names": 3}, {}):
        with pytest.raises(BinsegError, match=r"m\.safetensors: the network has \d+ classes"):
            write_program(path, program, labels=wrong, preprocessing=PREPROCESSING,
                          other_layers="fp32")  # fmt: skip
        assert not path.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(kind="float"), "not packed; pack it: binseg pack"),
        (lambda header: header.update(kind="classifier"), "a classifier"),
        (lambda header: header.pop("program"), "no JSON object"),
        (lambda header: header["program"].update(version=2), "version 2.*upgrade"),
        (lambda header: header["program"].update(output=0), "output is of kind image"),
        (lambda header: header["program"]["operators"].pop(), "operator"),
        (lambda header: header.pop("labels"), "no names"),
        (lambda header: header["labels"]["names"].append("x"), "classes"),
    ],
)
def test_other_files_are_refused_in_one_line(path, change, message):
    rewrite(path, change)
    with pytest.raises(BinsegError, match=message) as caught:
        read_program(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_first_format_gets_the_remedy(path):
    file = read_model_file(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].replace(rb"\"format\":2", rb"\"format\":1")
    start = header.index(b',"crc32"')
    header = header[:start] + header[start + len(',"crc32":"12345678"') :]
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    assert read_model_file(path).header == {**file.header, "format": 1}
    with pytest.raises(BinsegError, match="binseg pack FLOAT_FILE"):
        read_program(path)


def test_a_program_that_breaks_the_definition_is_not_written(tmp_path, program):
    path = tmp_path / "m.safetensors"
    program.tensors["unused"] = np.zeros(1, np.float32)
    with pytest.raises(ProgramError, match="'unused' is never used"):
        write_program(path, program, labels=labels(random_program(1)[0]),
                      preprocessing=PREPROCESSING, other_layers="fp32")  # fmt: skip
    assert not path.exists()
