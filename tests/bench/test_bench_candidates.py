"""The candidates of a benchmark compute the same thing, from the image's bytes to the class map."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import binseg
from binseg.bench import subject as subject_module
from binseg.bench.candidates import (
    ONNX_RUNTIME,
    OPENVINO,
    int8_twin,
    packed_candidates,
    torch_candidates,
)
from binseg.bench.machine import describe
from binseg.bench.options import BenchOptions
from binseg.bench.resident import peak_bytes, start_counting
from binseg.bench.run import times_faster
from binseg.bench.subject import default_subject, subject_of
from binseg.bench.timing import Timing
from binseg.compiler.packed import PackedSegmenter
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.predictor import Predictor

KINDS = ("fp32", "bf16", "int8")
OPTIONS = BenchOptions(size=(64, 96), rounds=1, seconds=0)


@pytest.fixture(scope="module")
def subject():
    torch.manual_seed(0)
    model = binseg.create_model(
        "groupnet18", num_classes=5, output_stride=16, width=16, bases=2, nonlinearity="prelu"
    )
    found = subject_of("small", model, OPTIONS)
    return replace(found, preprocessing=Preprocessing(short_side=80))


def test_the_twin_has_the_same_topology_in_full_precision(subject):
    assert subject.twin.architecture["precision"] == "full"
    assert subject.twin.architecture["width"] == 16
    assert list(subject.packed) == [f"1-bit, other layers {kind}" for kind in KINDS]
    assert all(isinstance(packed, PackedSegmenter) for packed in subject.packed.values())
    assert subject.images[0].shape == (64, 96, 3)


def test_the_default_networks_are_packed_with_and_without_gates(monkeypatch):
    packings = []
    monkeypatch.setattr(subject_module, "pack", lambda network, **how: packings.append(how))
    monkeypatch.setattr(subject_module, "settle", lambda network: None)
    found = default_subject(BenchOptions(size=(32, 32), bases=(1, 2)))
    assert list(found.packed) == [
        "1-bit K=1, other layers int8",
        "1-bit K=2, other layers int8",
        "1-bit K=2 no gates, other layers int8",
    ]
    assert [how["other_layers"] for how in packings] == ["int8"] * 3


@pytest.mark.openvino
def test_all_candidates_give_the_class_map_that_the_file_gives(subject, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    files = subject.write(tmp_path)
    image = subject.images[0]
    twin = Predictor(files["fp32 twin"])(image).class_map
    assert len(np.unique(twin)) > 1  # random networks that are settled have an opinion
    equal = {"fp32": 0.9999, "bf16": 0.97, "int8": 0.85}
    candidates = torch_candidates(subject.twin, subject.preprocessing)
    assert {"fp32 torch NCHW", "fp32 torch channels_last"} <= set(candidates)
    int8 = int8_twin(
        subject.twin, subject.labels, subject.preprocessing, subject.images, tmp_path / "int8"
    )
    assert list(int8.models) == [OPENVINO, ONNX_RUNTIME]
    assert not int8.notes
    assert all(0 < size < files["fp32 twin"].stat().st_size / 2 for size in int8.bytes.values())
    candidates |= int8.candidates(1, (64, 96))
    for name, candidate in candidates.items():
        found = candidate.segment(image)
        assert (found.dtype, found.shape) == (np.uint8, (64, 96)), name
        assert (found == twin).mean() > equal[candidate.kind], name
    (flexible, _) = int8.candidates(1).values()
    assert flexible.segment(image, (33, 47)).shape == (33, 47)
    name = "1-bit, other layers int8"
    expected = Predictor(files[name])(image).class_map
    packed = packed_candidates(name, files[name], 1)
    assert list(packed) == [name, f"{name}, libbinseg alone"]
    for candidate in packed.values():
        np.testing.assert_array_equal(candidate.segment(image), expected)
    assert len(np.unique(expected)) > 1


def test_a_missing_runtime_is_a_note_and_no_fault(subject, tmp_path, monkeypatch):
    def missing(*_, **__):
        raise BinsegError("ONNX needs onnxscript: pip install 'binseg[export]'")

    monkeypatch.setattr("binseg.export.onnx_file.require_onnx", missing)
    found = int8_twin(subject.twin, subject.labels, subject.preprocessing, subject.images, tmp_path)
    assert found.candidates(1, (64, 96)) == {}
    assert "binseg[export]" in found.notes[0]


def test_ratios_are_against_the_fastest_of_a_kind():
    timings = {"slow": Timing((4.0, 5.0)), "fast": Timing((3.0, 2.0)), "ours": Timing((0.5,))}
    kinds = {"slow": "int8", "fast": "int8", "ours": "1-bit"}
    assert times_faster(timings, kinds, "int8") == {"slow": 0.5, "fast": 1.0, "ours": 4.0}
    assert times_faster(timings, kinds, "fp32") == {}


def test_a_network_without_bits_is_refused():
    model = binseg.create_model("groupnet18", num_classes=5, width=16, precision="full")
    with pytest.raises(BinsegError, match="1 bit"):
        subject_of("twin", model, OPTIONS)


def test_the_machine_is_described(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    found = describe()
    assert found["machine"]["processor"]
    assert "portable" in found["machine"]["instructions"]
    assert found["machine"]["limits"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert found["versions"]["torch"] == torch.__version__


def test_the_peak_counts_what_was_freed_again():
    before = start_counting()
    torch.ones(25_000_000)
    assert peak_bytes() - before > 80_000_000
