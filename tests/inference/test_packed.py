"""Packed networks from the image's bytes to the class map, without torch."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from small_packed import LABELS, halves, small_program, write_small_packed

from binseg.data.imageio import write_image
from binseg.errors import BinsegError, BinsegWarning
from binseg.inference.packed import PackedNetwork, default_threads
from binseg.inference.program_summary import summarize_program
from binseg.inference.self_test import check_library
from binseg.model_file import write_model_file
from binseg.predictor import Predictor
from binseg.runtime import library
from binseg.runtime.library import isas

SCRIPT = """
import sys, binseg
found = binseg.Predictor(sys.argv[1])(sys.argv[2])
found.save(sys.argv[3])
heavy = {"torch", "cv2", "matplotlib", "gradio", "lightning", "torchvision", "albumentations"}
print(sorted(heavy & sys.modules.keys()))
"""


@pytest.fixture
def model(tmp_path):
    return write_small_packed(tmp_path / "m.safetensors", 24)


@pytest.fixture
def no_library(monkeypatch):
    library.library.cache_clear()
    monkeypatch.setenv("BINSEG_LIBRARY", "/nowhere/libbinseg.so")
    yield
    library.library.cache_clear()


def test_predictor_loads_neither_torch_nor_opencv(model, tmp_path):
    write_image(tmp_path / "street.png", halves(50, 70))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, model, tmp_path / "street.png", tmp_path / "ids.png"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"
    assert (tmp_path / "ids_overlay.jpg").is_file()


@pytest.mark.parametrize("size", [None, (50, 70), (11, 13)])
def test_the_reference_takes_over_with_one_warning(model, no_library, request, size):
    image = halves(50, 70)
    with pytest.warns(BinsegWarning, match="slow reference.*cannot be loaded") as warned:
        slow = PackedNetwork(model).class_map(image, size)
    assert len(warned) == 1
    request.getfixturevalue("monkeypatch").delenv("BINSEG_LIBRARY")
    library.library.cache_clear()
    np.testing.assert_array_equal(PackedNetwork(model).class_map(image, size), slow)
    assert slow.shape == (size or image.shape[:2])
    assert set(np.unique(slow)) == {0, 1}


def test_predictor_of_a_packed_file(model):
    found = Predictor(model)(halves(30, 40))
    np.testing.assert_array_equal(found.class_map, halves(30, 40)[..., 0] > 127)
    assert found.labels == LABELS
    assert Predictor(model).about["device"] == "cpu"


def test_faults_are_one_line_with_the_file(tmp_path, model):
    with pytest.raises(ValueError, match="HWC uint8"):
        PackedNetwork(model).class_map(np.zeros((3, 4), np.uint8))
    with pytest.raises(BinsegError, match="too unequal"):
        PackedNetwork(model).class_map(np.zeros((1, 120_000, 3), np.uint8))
    program = small_program()
    header = {"kind": "packed", "program": program.to_json(), "preprocessing": {
        "mean": [0.0] * 3, "std": [1.0] * 3, "short_side": None}}  # fmt: skip
    table = dataclasses.replace(LABELS, names=("a",), palette=((1, 2, 3),), raw_to_train={0: 0})
    for labels, fault in (({}, "damaged label table"), (table.to_dict(), "2 classes")):
        path = tmp_path / "wrong.safetensors"
        write_model_file(path, {**header, "labels": labels}, program.tensors)
        with pytest.raises(BinsegError, match=fault) as raised:
            PackedNetwork(path)
        assert str(raised.value).startswith(f"{path}: ")


def test_a_float_file_is_no_packed_network(tmp_path):
    path = tmp_path / "float.safetensors"
    write_model_file(path, {"kind": "float"}, {"x": np.zeros(3, np.float32)})
    with pytest.raises(BinsegError, match="not packed"):
        PackedNetwork(path)


@pytest.mark.parametrize(
    ("said", "threads"), [("3", 3), ("2,1", 2), ("9999", 256), ("x", None), ("0", None)]
)
def test_threads(monkeypatch, said, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert default_threads() == (threads or len(os.sched_getaffinity(0)))


def test_the_self_test_finds_wrong_scores(monkeypatch):
    for isa in isas():
        check_library(isa)
    scores = library.Network.scores
    wrong = lambda *arguments, **options: scores(*arguments, **options) + 1  # noqa: E731
    monkeypatch.setattr(library.Network, "scores", wrong)
    with pytest.raises(BinsegError, match="wrong scores on portable"):
        check_library("portable")


def test_figures_by_hand(model):
    found = summarize_program(model, (5, 7))
    stem, head = found.operators
    assert (stem.name, stem.kind, stem.output) == ("stem", "conv_int8", (5, 7, 8))
    assert (stem.binary_parameters, stem.real_parameters) == (0, 8 * 3 + 2 * 8)
    assert (stem.packed_bytes, stem.real_macs) == (8 * 3 + 4 * 2 * 8, 5 * 7 * 8 * 3)
    assert (head.binary_parameters, head.binary_bytes) == (16, 2)
    assert (head.packed_bytes, head.binary_macs) == (2 + 4 * 3 * 2, 5 * 7 * 16)
    assert found.total.binary_macs == head.binary_macs
