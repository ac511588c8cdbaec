"""The sides of the benchmark compute the same thing."""

import pytest
import torch

import binseg
from binseg.bench import contest as contest_module
from binseg.bench.contest import contest_of, default_contest
from binseg.bench.layers import LayerShape, chosen_backends, measure_blocks, measure_layers
from binseg.bench.machine import describe
from binseg.bench.network import (
    FINISHES,
    OnnxScores,
    by_strips,
    by_torch,
    measure_networks,
    onnx_files,
)
from binseg.bench.onnx_layer import session
from binseg.bench.options import BenchOptions
from binseg.bench.probe import peak_bytes, start_counting
from binseg.compiler.packed import PackedSegmenter
from binseg.errors import BinsegError

KINDS = ("fp32", "bf16", "int8")
OPTIONS = BenchOptions(size=(64, 96), rounds=1, seconds=0, backends=("reference",))


@pytest.fixture(scope="module")
def contest():
    torch.manual_seed(0)
    model = binseg.create_model(
        "groupnet18", num_classes=5, output_stride=16, width=16, bases=2, nonlinearity="prelu"
    )
    return contest_of("small", model, OPTIONS)


def test_the_twin_has_the_same_topology_in_full_precision(contest):
    assert contest.twin.architecture["precision"] == "full"
    assert contest.twin.architecture["width"] == 16
    assert list(contest.packed) == [f"1-bit, other layers {kind}" for kind in KINDS]
    assert all(isinstance(packed, PackedSegmenter) for packed in contest.packed.values())
    assert contest.picture.shape == (1, 3, 64, 96)


def test_the_default_networks_are_packed_with_and_without_gates(monkeypatch):
    packings = []
    monkeypatch.setattr(contest_module, "pack", lambda network, **how: packings.append(how))
    monkeypatch.setattr(contest_module, "settle", lambda network: None)
    found = default_contest(BenchOptions(size=(32, 32), bases=(1, 2)))
    assert list(found.packed) == [
        *(f"1-bit K=1, other layers {kind}" for kind in KINDS),
        *(f"1-bit K=2, other layers {kind}" for kind in KINDS),
        "1-bit K=2 no gates, other layers int8",
    ]
    assert [how["other_layers"] for how in packings[-2:]] == ["int8", "int8"]


def test_settled_networks_have_signs_of_both_kinds(contest):
    maps = contest.twin(contest.picture)
    assert maps.isfinite().all()
    assert len(contest.twin(contest.picture).argmax(1).unique()) > 1
    packed = contest.packed["1-bit, other layers fp32"]
    assert len(packed.class_map(contest.picture).unique()) > 1


def test_both_finishes_give_the_same_class_map():
    scores = torch.randn(2, 7, 9, 11)
    one, other = (finish(scores, (61, 83)) for finish in (by_torch, by_strips))
    assert one.dtype == other.dtype == torch.uint8
    assert (one == other).float().mean() > 0.9999


def test_onnx_runtime_gives_the_twins_class_map_in_fp32_and_nearly_in_int8(contest, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    notes: list[str] = []
    files = onnx_files(contest.twin, contest.pictures, tmp_path, notes)
    assert not notes
    with torch.inference_mode():
        wanted = contest.twin.head(contest.twin.backbone(contest.picture))
        expected = by_torch(wanted, OPTIONS.size)
        found = {
            name: OnnxScores(session(str(path), 1))(contest.picture) for name, path in files.items()
        }
    torch.testing.assert_close(found["fp32 ONNX Runtime"], wanted, rtol=1e-3, atol=1e-3)
    eight = found["int8 ONNX Runtime"]
    assert torch.corrcoef(torch.stack([eight.flatten(), wanted.flatten()]))[0, 1] > 0.98
    assert (by_torch(eight, OPTIONS.size) == expected).float().mean() > 0.85
    sizes = [files[name].stat().st_size for name in ("fp32 ONNX Runtime", "int8 ONNX Runtime")]
    assert sizes[1] < sizes[0] / 2
    assert {path.name for path in tmp_path.iterdir()} == {"twin.onnx", "twin_int8.onnx"}


def test_a_missing_exporter_is_a_note_and_no_fault(contest, tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ModuleNotFoundError("No module named 'onnxscript'")

    monkeypatch.setattr(torch.onnx, "export", missing)
    notes: list[str] = []
    assert onnx_files(contest.twin, contest.pictures, tmp_path, notes) == {}
    assert "binseg[export]" in notes[0]


def test_networks_are_measured_in_turn_with_ratios(contest):
    (found,) = measure_networks(contest, {}, OPTIONS, lambda what: None)
    assert found["threads"] == 1
    assert {"fp32 NCHW", "fp32 channels_last", *contest.packed} <= set(found["sides"])
    best = min(found["sides"][name]["seconds"] for name in ("fp32 NCHW", "fp32 channels_last"))
    for name, side in found["sides"].items():
        assert len(side["rounds"]) == 1
        assert side["finish"] in {*FINISHES, "fused"}
        assert found["speedup_over_fp32"][name] == pytest.approx(best / side["seconds"])
    assert found["speedup_over_int8"] == {}


def test_layers_and_blocks_on_a_small_shape():
    shape = LayerShape(32, 6, 5, 2)
    notes: list[str] = []
    (found,) = measure_layers(OPTIONS, notes, lambda what: None, [shape])
    assert found["macs"] == shape.macs == 32 * 32 * 9 * 30
    assert found["shape"]["name"] == "C32 6×5 d2"
    ours = found["sides"]["reference bits"]
    assert ours["gmacs_per_second"] == pytest.approx(shape.macs / ours["seconds"] / 1e9)
    assert {"reference bits", "reference real"} <= set(found["speedup_over_fp32"])
    (block,) = measure_blocks(OPTIONS, lambda what: None, [shape])
    assert block["macs"] == 8 * shape.macs
    assert set(block["sides"]) == {"reference merged", "reference gated"}


def test_backends_are_those_asked_for_or_of_this_machine():
    assert chosen_backends(OPTIONS) == ("reference",)
    assert chosen_backends(BenchOptions())


def test_a_network_without_bits_is_refused():
    model = binseg.create_model("groupnet18", num_classes=5, width=16, precision="full")
    with pytest.raises(BinsegError, match="1 bit"):
        contest_of("twin", model, OPTIONS)


def test_the_machine_is_described():
    found = describe()
    assert found["machine"]["processor"]
    assert found["machine"]["in_use"] in found["machine"]["instructions"]
    assert found["versions"]["torch"] == torch.__version__


def test_the_peak_counts_what_was_freed_again():
    before = start_counting()
    torch.ones(25_000_000)
    assert peak_bytes() - before > 80_000_000
