"""`binseg compare` from end to end on tiny networks, its shipped configurations, its answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import binseg
from binseg.cli import main
from binseg.compare import run
from binseg.compare.config import check_buildable
from binseg.errors import BinsegError

CONFIGS = Path(binseg.__file__).parent.parent / "configs" / "compare"

TINY = {
    "data": {
        "name": "scenes",
        "scenes_size": [32, 48],
        "scenes_train": 8,
        "scenes_val": 3,
        "crop": [32, 48],
        "batch_size": 4,
        "calibration_images": 4,
    },
    "model": {"width": 8, "head": "fcn8s", "output_stride": 16},
    "trainer": {"epochs": 1, "overlays": 0},
    "latency": {"size": [33, 47], "rounds": 1, "seconds": 0},
    "reference": "twin",
    "networks": {
        "star": {"model": {"name": "groupnet18_star", "bases": 2, "atrous": "bpac"}},
        "twin": {"model": {"name": "groupnet18", "precision": "full"}},
    },
}


def compare(capsys, tmp_path, tree, *arguments, out="out"):
    """(exit status, stdout, stderr's lines)."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    status = main(["compare", "--config", str(path), "--out", str(tmp_path / out), *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err.splitlines()


def test_it_trains_all_writes_everything_and_keeps_what_is_finished(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    status, printed, _ = compare(capsys, tmp_path, TINY)
    assert status == 0
    result = json.loads((out / "results.json").read_text())
    assert {"date", "machine", "versions", "commit", "load", "recipe", "latency"} <= result.keys()
    assert result["recipe"]["data"]["scenes_size"] == [32, 48]
    star, twin = result["rows"]
    assert (star["name"], star["baseline"], star["binary"]) == ("star", "twin", True)
    assert star["model"]["atrous"] == "bpac"
    assert (twin["faster"], twin["binary_macs"]) == (None, 0)
    assert f"{star['shipped_miou']['value']:.3f}" in printed
    assert f"| star | {star['trained_miou']['value']:.3f} |" in (out / "results.md").read_text()
    assert (out / "results.csv").read_text().count("\n") == 3
    assert (out / "scatter.png").stat().st_size > 10_000

    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")
            if path.name == "best.safetensors"}  # fmt: skip
    assert len(kept) == 2
    monkeypatch.setattr(run, "train", None)
    status, printed, _ = compare(capsys, tmp_path, TINY, "--latency.rounds", "2")
    assert status == 0
    assert "2 of 2 trainings are finished already" in printed
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    again = json.loads((out / "results.json").read_text())["rows"]
    assert len(again[0]["rounds"]) == 2
    assert again[0]["outcomes"] == star["outcomes"]

    status, _, errors = compare(capsys, tmp_path, TINY, "--optimizer.lr", "0.5")
    assert (status, len(errors)) == (1, 1)
    assert "other values of optimizer.lr: star/seed0, twin/seed0" in errors[0]


def test_a_failed_training_is_named_and_the_status_is_1(tmp_path, capsys, monkeypatch):
    real = run.train

    def fake(experiment, folder, *, resume):
        if folder.parent.name == "star":
            raise BinsegError("no luck")
        return real(experiment, folder, resume=resume)

    monkeypatch.setattr(run, "train", fake)
    status, printed, errors = compare(capsys, tmp_path, TINY)
    assert status == 1
    assert errors == ["failed: star, seed 0: no luck"]
    assert "results.md" in printed
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["failures"] == {"star, seed 0": "no luck"}
    assert [row["name"] for row in result["rows"]] == ["twin"]


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [({"optimiser": {"lr": 1}}, 2, "mine.yaml: unknown option 'optimiser.lr'; did you mean"),
     ({"networks": {"star": {"model": {"bass": 2}}}}, 1,
      "networks.star: unknown option 'model.bass'; did you mean 'model.bases'?"),
     ({"networks": {"star": {"model": {"name": "groupnet81"}}}, "reference": "star"}, 1,
      "networks.star: unknown model 'groupnet81'; did you mean"),
     ({"networks": {"star": 5}}, 2, "networks must be"),
     ({"networks": {}}, 1, "networks: is empty"),
     ({"networks": {18: {"model": {"bass": 2}}}}, 1, "networks.18: unknown option 'model.bass'"),
     ({"networks": {False: {}}}, 1, "networks: YAML reads a name there as False; write it in quot"),
     ({"networks": {1.5: {}}}, 1, "networks: YAML reads a name there as 1.5; write it in quotes"),
     ({"networks": {18: {}, "18": {}}}, 1, "networks.18: is there twice"),
     ({"networks": {18: {}}, "reference": 81}, 1, "unknown reference '81'; did you mean '18'?"),
     ({"networks": {18: {}}, "reference": 18, "only": [81]}, 1,
      "unknown network '81'; did you mean '18'?"),
     ({"reference": "twn"}, 1, "unknown reference 'twn'; did you mean 'twin'?"),
     ({"seeds": [0, 0]}, 1, "seeds must be different"),
     ({"seeds": ["x"]}, 2, "seeds"),
     ({"other_layers": "int4"}, 2, "other_layers must be one of 'fp32', 'bf16', 'int8', not int4"),
     ({"latency": {"threads": 0}}, 1, "latency.threads must lie in"),
     ({"data": {"name": "camvid", "root": "nowhere"}}, 1, "nowhere")],
)  # fmt: skip
def test_bad_configurations_are_answered_in_one_line(tmp_path, capsys, change, status, says):
    found, _, errors = compare(capsys, tmp_path, {**TINY, **change})
    assert (found, len(errors)) == (status, 1)
    assert says in errors[0]
    assert not (tmp_path / "out").exists()


def test_without_networks_it_says_so(capsys, tmp_path):
    assert main(["compare", "--out", str(tmp_path / "out")]) == 2
    assert "networks" in capsys.readouterr().err


def test_an_unknown_name_of_only_is_answered(tmp_path, capsys):
    status, _, errors = compare(capsys, tmp_path, TINY, "--only", "twn")
    assert (status, len(errors)) == (1, 1)
    assert "unknown network 'twn'; did you mean 'twin'?" in errors[0]


FAMILIES = {"groupnet18_star": "groupnet18_star_twin", "resnete18": "resnete18_twin",
            "bnn18": "resnete18_twin"}  # fmt: skip
BASELINES = {
    "camvid": FAMILIES,
    "scenes": FAMILIES,
    "camvid_models": {"base": "base_twin", "small": "small_twin", "base_twin": None},
    "street_folds": {"s8_robust": "s8_robust_twin", "s8_robust_twin": None},
    "cityscapes_claims": {"k1": "twin", "k4_gates_off": "twin", "twin": None},
    "camvid_claims": {"full": "twin", "k4": "twin", "pretraining_off": "twin", "twin": None},
}  # fmt: skip
"""Comparison → row → the row that its time is compared with."""


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_comparison_loads_and_its_networks_build(path, tmp_path, monkeypatch, capsys):
    seen = {}

    def stop(comparison, out, **options):
        seen["comparison"] = comparison
        raise BinsegError("seen")

    monkeypatch.setattr(run, "run_comparison", stop)
    assert main(["compare", "--config", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "error: seen" in capsys.readouterr().err
    found = seen["comparison"]
    twins = BASELINES[path.stem]
    assert {name: found.baseline(name) for name in twins} == twins
    # files that a row begins at are made by other trainings
    begun = {
        name: replace(each, model=replace(each.model, start=None))
        for name, each in found.networks.items()
    }
    check_buildable(begun, 11)


def test_a_row_without_values_is_the_recipe(tmp_path, monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr(run, "run_comparison", lambda made, out, **options: seen.update(made=made))
    tree = {
        **TINY,
        "networks": {"plain": None},
        "reference": "plain",
        "seeds": [3, 1],
        "against": "plain",
    }
    with pytest.raises(AttributeError):  # there is no result to write
        compare(capsys, tmp_path, tree)
    assert seen["made"].networks["plain"].model.width == 8
    assert seen["made"].seeds == (3, 1)
    assert seen["made"].against == "plain"
