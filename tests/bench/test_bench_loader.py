"""`binseg data bench`: every part is timed, the loader for each number of workers."""

import io
import json
from pathlib import Path

import pytest
from dataset_trees import write_voc
from rich.console import Console

from binseg.bench.loader import LoaderOptions, run_loader_bench
from binseg.bench.tables import loader_tables
from binseg.cli.data_bench import data_bench
from binseg.cli.main import main
from binseg.data.config import DataConfig
from binseg.errors import BinsegError

QUICK = {"images": 2, "rounds": 1, "seconds": 0.0, "force": True}


def voc(tmp_path: Path, **changes: object) -> DataConfig:
    settings = {"name": "voc", "root": str(write_voc(tmp_path)), "crop": (24, 32), "batch_size": 2}
    return DataConfig(**settings | changes)  # type: ignore[arg-type]


def test_every_part_and_every_number_of_workers(tmp_path: Path) -> None:
    config = voc(tmp_path, short_side=32)
    # an epoch has two batches: five run into the third
    options = LoaderOptions(workers=(1, 0), batches=5, **QUICK)  # type: ignore[arg-type]
    result = run_loader_bench(config, options)
    rows = [(row["workers"], row["cache"]) for row in result["loader"]]
    assert rows == [(1, False), (0, False), (1, True), (0, True)]
    assert all(row["pictures_per_second"] > 1 for row in result["loader"])
    reading = ["read image", "read mask, train ids"]
    assert list(result["training"]) == [
        *reading,
        *("resize image", "scale and crop", "flip", "colour jitter", "collate", "normalize"),
    ]
    assert list(result["scoring"]) == [*reading, "confusion matrix", "Boundary IoU"]
    for part in (*result["training"].values(), *result["scoring"].values()):
        assert 0 < part < 1
    assert result["versions"]["python"]
    assert result["data"]["short_side"] == 32
    json.dumps(result, allow_nan=False)  # neither arrays nor numbers that JSON does not have
    screen = Console(file=io.StringIO(), width=100)
    for table in loader_tables(result):
        screen.print(table)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    for words in ("from files", "from the cache", "crops of 24 × 32", *result["training"]):
        assert words in text


def test_what_is_not_done_is_not_timed(tmp_path: Path) -> None:
    still = {"flip": 0, "brightness": 0, "contrast": 0, "saturation": 0, "noise": 0.5}
    settings = {"name": "scenes", "scenes_size": (32, 48), "crop": (24, 32), "scenes_train": 5}
    config = DataConfig(**settings, batch_size=2, cache=False)  # type: ignore[arg-type]
    for name, value in still.items():
        setattr(config.augment, name, value)
    options = LoaderOptions(workers=(0,), batches=1, **QUICK)  # type: ignore[arg-type]
    result = run_loader_bench(config, options)
    assert [row["cache"] for row in result["loader"]] == [False]
    assert list(result["training"]) == [
        *("draw", "scale and crop", "hue, gamma, blur, noise, JPEG", "collate", "normalize")
    ]


def test_the_command_writes_what_it_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    config = voc(tmp_path, cache=False)
    status = data_bench(config, "0", batches=1, images=1, rounds=1, force=True, out=out)
    assert status == 0
    assert "training loader, batches of 2" in capsys.readouterr().out
    written = json.loads((out / "loader.json").read_text())
    assert [row["workers"] for row in written["loader"]] == [0]


@pytest.mark.parametrize(
    "change", [{"workers": (0, -1)}, {"batches": 0}, {"images": 0}, {"rounds": 0}]
)
def test_impossible_options(change: dict) -> None:
    with pytest.raises(BinsegError, match=f"{next(iter(change))} must lie in"):
        LoaderOptions(**change)


def test_words_for_workers(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "bench", "--data.name", "scenes", "--workers", "two"]
    assert main(command) == 1
    assert "workers must be integers like 1,2" in capsys.readouterr().err
