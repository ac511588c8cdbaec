"""Estimates of a network's cost from measured rates, against sums by hand."""

import json
from pathlib import Path

import pytest

from binseg.cli.summary import summary_command
from binseg.errors import BinsegError
from binseg.nn.segmenter import create_model
from binseg.runtime.library import isas
from binseg.summarize import summary
from binseg.summarize.cost import LANES, Rates, estimate

RATES = Rates("avx512", bits=1e12, int8=2e11, map_bytes=4e10)


def bench_file(folder: Path) -> Path:
    """One network on one thread, and one on two, which must not count."""

    def operator(kind: str, seconds: float, channels: int = 64) -> dict[str, object]:
        output = [1, 100, 100, channels]
        return {"operator": kind, "macs": 10**9, "output": output, "seconds": seconds}

    operators = [
        operator("conv_bits", 1e-3),
        operator("conv_bits", 2e-3),
        operator("conv_bits", 4e-3, channels=128),
        operator("conv_bits", 9.0, channels=96),  # fills one tile and a half
        operator("conv_real", 2e-3 + 1e-4),
        operator("conv_merge", 2e-3 + 2e-4),
        operator("conv_merge", 2e-3 + 3e-4),
        operator("conv_int8", 5e-3),
        operator("add", 1.0) | {"macs": 0},
    ]
    networks = {
        "a": {"threads": 1, "instruction_set": "avx512", "operators": operators},
        "b": {
            "threads": 2,
            "instruction_set": "avx512",
            "operators": [operator("conv_bits", 1e-9)],
        },
    }
    path = folder / "bench.json"
    path.write_text(json.dumps({"operators": networks}))
    return path


def test_rates_are_medians_of_one_thread(tmp_path: Path) -> None:
    found = Rates.from_bench(bench_file(tmp_path))
    assert found.backend == "avx512"
    assert found.bits == pytest.approx(1e9 / 2e-3)
    assert found.int8 == pytest.approx(1e9 / 5e-3)
    assert found.map_bytes == pytest.approx(8 * 64 * 100 * 100 / 2e-4)


def test_every_instruction_set_of_this_machine_has_rates() -> None:
    assert set(isas()) <= LANES.keys()


def test_a_file_without_rates_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    for text in ("", "[]", "{}", '{"operators": {}}', '{"operators": {"a": {"threads": 1}}}'):
        path.write_text(text)
        with pytest.raises(BinsegError, match=r"other\.json: no rates.*binseg bench"):
            Rates.from_bench(path)
    with pytest.raises(BinsegError, match=r"none\.json: no rates"):
        Rates.from_bench(tmp_path / "none.json")


def test_layers_by_hand() -> None:
    network = create_model("groupnet_s8", num_classes=11, head="unet", width=96)
    found = summary(network, (96, 160))
    seconds = {
        layer.name: each
        for layer, each in zip(found.layers, estimate(found.layers, RATES), strict=True)
    }
    # 96 channels fill one and a half tiles of 64, so two are computed
    pixels = 12 * 20
    macs, values = 9 * 96 * 96 * pixels, 96 * pixels
    assert seconds["backbone.stages.0.0.unit1.0"] == pytest.approx(
        macs * 128 / 96 / 1e12 + 8 * values / 4e10
    )
    # the stem's first convolution gives 12 channels, of 16 lanes, at a quarter of the pixels
    pixels = 48 * 80
    macs, values = 27 * 12 * pixels, 12 * pixels
    assert seconds["backbone.stem.fine.0"] == pytest.approx(
        macs * 16 / 12 / 2e11 + 2 * values / 4e10
    )
    # BatchNorms are folded
    assert seconds["backbone.stem.fine.1"] == 0


def test_the_command_shows_and_writes_the_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    summary_command("groupnet18", size=(64, 96), classes=4, rates=bench_file(tmp_path), json=out)
    written = json.loads(out.read_text())["estimate"]
    total = sum(written["seconds"].values())
    assert written["rates"]["backend"] == "avx512"
    assert total > 0
    assert f"{total * 1e3:.2f} ms" in capsys.readouterr().out.replace("\n", " ")
