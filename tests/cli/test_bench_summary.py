"""`binseg bench` and `binseg summary` from end to end, on tiny networks."""

import json

import pytest
from PIL import Image

from binseg.cli import main

TINY = ["groupnet18", "--model.width", "8", "--model.bases", "2", "--classes", "5"]


def lines(capsys):
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


@pytest.mark.openvino
@pytest.mark.slow
def test_every_part_of_the_benchmark(tmp_path, capsys):
    out = tmp_path / "bench"
    arguments = ["--size", "[32,48]", "--quick", "--rounds", "1", "--force", "--out", str(out)]
    assert main(["bench", *TINY, *arguments]) == 0
    printed, _ = lines(capsys)
    assert max(map(len, printed)) <= 100
    found = json.loads((out / "bench.json").read_text())
    assert {"date", "machine", "versions", "commit", "load_before", "load_during"} <= set(found)
    assert found["options"]["force"] is True
    (network,) = found["networks"]
    sides = [f"1-bit, other layers {kind}" for kind in ("fp32", "bf16", "int8")]
    candidates = network["candidates"]
    assert {*sides, "int8 OpenVINO", "int8 ONNX Runtime", "fp32 torch NCHW"} <= set(candidates)
    assert all(len(each["rounds"]) == 1 for each in candidates.values())
    best = min(each["seconds"] for each in candidates.values() if each["kind"] == "int8")
    ratio = network["times_faster"]["int8"][sides[2]]
    assert ratio == pytest.approx(best / candidates[sides[2]]["seconds"])
    sizes = found["size"]
    assert sizes["fp32 twin"]["times_smaller"] == 1
    assert sizes["1-bit, other layers int8"]["bytes"] < sizes["fp32 twin"]["bytes"]
    assert {*sides, "fp32 twin"} == set(found["memory"])
    assert all(row["peak"] >= row["before"] for row in found["memory"].values())
    assert found["memory"][sides[2]]["peak"] < found["memory"]["fp32 twin"]["peak"]
    assert {*sides, "fp32 twin"} <= set(found["startup"])
    operators = found["operators"][sides[2]]
    assert 0 < operators["real_share"] < 1
    assert sum(each["macs"] for each in operators["operators"]) > 0
    with Image.open(out / "bench.png") as chart:
        assert min(chart.size) > 500


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--parts", "operator"], "unknown part 'operator'; did you mean 'operators'"),
     (["--threads", "two"], "threads must be integers"),
     (["--threads", "0"], "threads must lie in"),
     (["--threads", "100000"], "the cores that this process may use"),
     (["--gates", "own"], "unknown gates 'own'"),
     (["--out", "/dev/null/bench"], "cannot be written"),
     (["nowhere.safetensors", "--force"], "there is no such model file"),
     (["groupnet19", "--force"], "did you mean 'groupnet18'"),
     (["groupnet18", "--model.name", "groupnet50", "--force"], "two networks are named")],
)  # fmt: skip
def test_wrong_arguments_are_answered_in_one_line(capsys, arguments, says):
    assert main(["bench", *arguments]) == 1
    printed, errors = lines(capsys)
    assert not printed
    assert len(errors) == 1
    assert says in errors[0]


def test_lists_of_threads_are_read(capsys):
    assert main(["bench", "--threads", "1,2000"]) == 1
    assert "not 1, 2000" in lines(capsys)[1][0]


def test_summary_writes_what_it_shows(tmp_path, capsys):
    path = tmp_path / "summary.json"
    assert main(["summary", *TINY, "--size", "[64,96]", "--json", str(path)]) == 0
    printed, _ = lines(capsys)
    assert max(map(len, printed)) <= 100
    found = json.loads(path.read_text())
    assert found["network"] == "groupnet18"
    assert found["image"] == [64, 96]
    assert any(layer["kind"] == "BinaryConv2d" for layer in found["layers"])
    assert "time" not in found
    text = "\n".join(printed)
    assert "not 1-bit" in text
    assert f"{found['real_share']['macs']:.2%}" in text


def test_summary_times_the_packed_network(tmp_path, capsys):
    path = tmp_path / "summary.json"
    options = ["--size", "[32,32]", "--time", "--other-layers", "bf16", "--json", str(path)]
    assert main(["summary", *TINY, *options]) == 0
    assert "conv_merge" in capsys.readouterr().out
    found = json.loads(path.read_text())["time"]
    assert found["other_layers"] == "bf16"
    assert 0 < found["real_share"] < 1


def test_summary_of_a_file_takes_no_options(tmp_path, capsys):
    (tmp_path / "a.safetensors").write_bytes(b"")
    arguments = ["summary", str(tmp_path / "a.safetensors"), "--model.bases", "2"]
    assert main(arguments) == 1
    assert "a file knows its own options" in lines(capsys)[1][0]


def test_the_time_of_a_twin_cannot_be_shown(capsys):
    arguments = ["--size", "[32,32]", "--time", "--model.precision", "full"]
    assert main(["summary", *TINY[:3], *arguments]) == 1
    assert "can be packed" in lines(capsys)[1][0]
