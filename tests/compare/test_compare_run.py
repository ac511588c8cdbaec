"""Comparisons from their recipe to their rows: checks, keeping, resuming, failing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from binseg.bench.timing import Timing
from binseg.compare import latency, measure, run
from binseg.compare.config import (
    Comparison,
    LatencyConfig,
    check_buildable,
    networks_of,
)
from binseg.compare.latency import Contender, measure_latency
from binseg.compare.report import write_report
from binseg.compare.run import run_comparison
from binseg.compiler.pack import pack
from binseg.data.config import DataConfig
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.loaded import load, read_header, save
from binseg.nn import segmenter
from binseg.nn.segmenter import create_model
from binseg.predictor import Predictor
from binseg.training.checkpoints import BEST, LAST, StopRequestedError
from binseg.training.config import Experiment, ModelConfig, TrainerConfig

RECIPE = Experiment(
    data=DataConfig(
        name="scenes",
        crop=(32, 48),
        scenes_size=(32, 48),
        scenes_train=8,
        scenes_val=3,
        batch_size=4,
        calibration_images=4,
    ),
    model=ModelConfig(width=8, head="fcn8s", output_stride=16),
    trainer=TrainerConfig(epochs=1, overlays=0),
)
OVERRIDES = {
    "net": {"model": {"name": "groupnet18", "bases": 1}},
    "net_twin": {"model": {"name": "groupnet18", "bases": 1, "precision": "full"}},
}
LATENCY = LatencyConfig(size=(33, 47), rounds=2, seconds=0)


def comparison(overrides=OVERRIDES, recipe=RECIPE, **changes) -> Comparison:
    return Comparison(networks=networks_of(recipe, overrides), latency=LATENCY, **changes)


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A finished comparison of one seed."""
    out = tmp_path_factory.mktemp("compare") / "out"
    run_comparison(comparison(), out, on_progress=silent)
    return out


@pytest.fixture
def out(trained, tmp_path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(trained, tmp_path / "out")


@pytest.fixture
def never_train(monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("trained")

    monkeypatch.setattr(run, "train", fail)


# --- recipe and rows ---


def test_a_row_is_the_recipe_with_its_own_values():
    rows = networks_of(
        RECIPE,
        {"a": {"model": {"bases": 3}, "optimizer": {"lr": 0.5}, "data": {"crop": [40, 56]}},
         "b": {"data": {"augment": {"scale_max": 1.75}}, "model": {"rates": [3, 5]}},
         "c": None,
         "d": {"loss": {"class_weights": {"car": 3.0}}}},
    )  # fmt: skip
    assert rows["d"].loss.class_weights == {"car": 3.0}
    assert rows["a"] == replace(
        RECIPE,
        model=replace(RECIPE.model, bases=3),
        optimizer=replace(RECIPE.optimizer, lr=0.5),
        data=replace(RECIPE.data, crop=(40, 56)),
    )
    assert rows["b"].data.augment.scale_max == 1.75
    assert rows["b"].model.rates == (3, 5)
    assert rows["c"] == RECIPE


@pytest.mark.parametrize(
    ("tree", "says"),
    [({"model": {"bass": 2}}, "unknown option 'model.bass'; did you mean 'model.bases'?"),
     ({"modl": {"bases": 2}}, "did you mean 'model.bases'?"),
     ({"model": {"bases": "two"}}, "model.bases cannot be 'two'"),
     ({"trainer": {"precision": "fp8"}, "model": {"bases": 2}}, "trainer.precision cannot be"),
     ({"trainer": {"epochs": 0}}, "trainer.epochs must be at least 1"),
     ({"trainer": {"seed": 3}}, "one of `seeds`"),
     ({"model": 3}, "unknown option 'model'")],
)  # fmt: skip
def test_a_wrong_value_names_its_row(tree, says):
    with pytest.raises(BinsegError, match=r"^networks\.mine: ") as caught:
        networks_of(RECIPE, {"fine": {}, "mine": tree})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "says"),
    [({"name": "groupnet19"}, "did you mean 'groupnet18'"),
     ({"name": "smp_unet", "bases": 2}, "option of smp_unet"),
     ({"head": "fcn9"}, "did you mean 'fcn"),
     ({"bases": 9}, "1 to 8 bases")],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_before_any_training(tmp_path, model, says):
    made = comparison({"fine": {}, "mine": {"model": model}})
    with pytest.raises(BinsegError, match=r"^networks\.mine: ") as caught:
        run_comparison(made, tmp_path / "out", on_progress=silent)
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"overrides": {}}, "networks: is empty"),
     ({"overrides": {"a/b": {}}}, "names a folder"),
     ({"overrides": {"..": {}}}, "names a folder"),
     ({"seeds": ()}, "seeds must be"),
     ({"seeds": (1, 1)}, "seeds must be"),
     ({"seeds": (-1,)}, "seeds must be"),
     ({"reference": "net_twn"}, "did you mean 'net_twin'"),
     ({"against": "net_twn"}, "unknown against 'net_twn'; did you mean 'net_twin'")],
)  # fmt: skip
def test_comparisons_that_make_no_sense(changes, says):
    with pytest.raises(BinsegError) as caught:
        comparison(**changes)
    assert says in str(caught.value)


@pytest.mark.parametrize("changes", [{"size": (8, 64)}, {"threads": 0}, {"threads": 10**6},
                                     {"rounds": 0}])  # fmt: skip
def test_latency_that_cannot_be_measured(changes):
    with pytest.raises(BinsegError, match=rf"latency\.{next(iter(changes))} must lie in"):
        LatencyConfig(**changes)


def test_the_baseline_is_the_twin_else_the_reference():
    others = {"other": {"model": {"name": "groupnet18", "bases": 2}}}
    made = comparison({**OVERRIDES, **others}, reference="net_twin")
    assert made.baseline("net") == "net_twin"
    assert made.baseline("other") == "net_twin"
    assert made.baseline("net_twin") is None
    # wherever the weights come from
    begun = {"net": {"model": {"name": "groupnet18", "bases": 1, "weights": "begun.safetensors"}}}
    assert comparison({**OVERRIDES, **begun}).baseline("net") == "net_twin"
    assert comparison({**OVERRIDES, **others}).baseline("other") is None
    assert comparison({**OVERRIDES, **others}, reference="other").baseline("other") is None


def test_every_network_is_trained_in_every_fold_and_scored_on_the_folds_own_images(tmp_path):
    folds = {"one": {"data": {"seed": 1}}, "two": {"data": {"seed": 2}, "loss": {"stride": 2}}}
    made = comparison({"net": OVERRIDES["net"]}, folds=folds)
    compared = run_comparison(made, tmp_path / "out", on_progress=silent)
    folders = sorted(path.name for path in (tmp_path / "out" / "net").iterdir())
    assert folders == ["seed0-one", "seed0-two"]
    (row,) = compared.rows
    assert row.folds == ["one", "two"]
    for outcome in row.outcomes:
        run_folder = tmp_path / "out" / "net" / f"seed0-{outcome.fold}"
        own = yaml.safe_load((run_folder / "config.yaml").read_text())
        assert own["data"]["seed"] == (1 if outcome.fold == "one" else 2)
        data = replace(RECIPE.data, seed=own["data"]["seed"])
        scored = Predictor(run_folder / "packed.safetensors", device="cpu").evaluate(
            data.open("val"), boundary_distance=None
        )
        assert outcome.shipped_miou == scored.scores.mean_iou
        assert (outcome.counts == scored.counts).all()
    mean = sum(outcome.shipped_miou for outcome in row.outcomes) / 2
    assert row.shipped_miou.value == pytest.approx(mean)
    write_report(compared, made, RECIPE, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["folds"] == folds
    assert [each["fold"] for each in written["rows"][0]["outcomes"]] == ["one", "two"]


@pytest.mark.parametrize(
    ("folds", "says"),
    [({"a/b": {}}, "folds.a/b: names a folder"),
     ({"one": {"data": {"sed": 1}}}, "folds.one: unknown option 'data.sed'; did you mean")],
)  # fmt: skip
def test_folds_that_make_no_sense(tmp_path, folds, says):
    with pytest.raises(BinsegError) as caught:
        run_comparison(comparison(folds=folds), tmp_path / "out", on_progress=silent)
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


# --- what is kept and what is trained ---


@pytest.mark.usefixtures("never_train")
def test_finished_rows_are_measured_and_not_trained_again(out):
    found = run_comparison(comparison(reference="net_twin"), out, on_progress=silent)
    net, twin = found.rows
    assert (net.name, net.binary, net.baseline) == ("net", True, "net_twin")
    assert (twin.name, twin.binary, twin.baseline, twin.faster) == ("net_twin", False, None, None)
    header = read_header(out / "net" / "seed0" / measure.PACKED)
    assert (header["kind"], header["other_layers"]) == ("packed", "fp32")
    assert net.bytes == (out / "net" / "seed0" / measure.PACKED).stat().st_size
    assert twin.bytes == (out / "net_twin" / "seed0" / BEST).stat().st_size
    # fp32 says what the trained network says, and a run's validation what evaluation says
    for row in found.rows:
        assert row.shipped_miou.value == pytest.approx(row.trained_miou.value, abs=1e-3)
        seen = [value for value in row.class_iou.values() if value is not None]
        assert len(row.class_iou) == 8  # of the scenes
        assert row.shipped_miou.value == pytest.approx(sum(seen) / len(seen))
        entry = json.loads((out / row.name / "seed0" / "history.json").read_text())[0]
        assert row.trained_miou.value == pytest.approx(entry["val_miou"])
        assert row.minutes == pytest.approx(entry["seconds"] / 60)
    assert len(net.rounds) == LATENCY.rounds
    assert net.milliseconds == min(net.rounds)
    assert net.faster == pytest.approx(twin.milliseconds / net.milliseconds)
    assert net.binary_macs > 0 == twin.binary_macs
    # the twin's products are the binary network's, bar the 1×1 shortcuts' and none are 1-bit
    assert twin.real_macs == net.binary_macs + net.real_macs
    assert not found.missing
    assert not found.failures


@pytest.mark.usefixtures("never_train")
def test_a_network_without_bits_is_compared_with_none(out):
    """Whatever its configuration says of precision."""
    plain = {"plain": {"model": {"name": "smp_fpn", "encoder": "resnet18", "width": None,
                                 "head": None, "output_stride": None}}}  # fmt: skip
    shutil.copytree(out / "net_twin", out / "plain")
    (out / "plain" / "seed0" / "config.yaml").unlink()
    made = comparison({**OVERRIDES, **plain}, reference="net_twin")
    rows = {
        row.name: row for row in run_comparison(made, out, report=True, on_progress=silent).rows
    }
    assert (rows["plain"].baseline, rows["plain"].faster) == (None, None)
    assert rows["net"].baseline == "net_twin"


def test_added_rows_and_seeds_are_trained_and_the_others_kept(out, monkeypatch):
    trained_now = []

    def fake(experiment, folder, *, resume):
        trained_now.append((folder.parent.name, experiment.trainer.seed, resume))
        shutil.copytree(out / "net" / "seed0", folder)

    monkeypatch.setattr(run, "train", fake)
    more = {**OVERRIDES, "more": {"model": {"name": "groupnet18", "bases": 2}}}
    found = run_comparison(
        comparison(more, seeds=(0, 4)), out, only=["net", "more"], on_progress=silent
    )
    assert trained_now == [("more", 0, True), ("net", 4, True), ("more", 4, True)]
    assert [(row.name, len(row.outcomes)) for row in found.rows] == [
        ("net", 2), ("net_twin", 1), ("more", 2),
    ]  # fmt: skip
    assert found.missing == ["net_twin, seed 4"]


def test_an_unfinished_row_goes_on_from_its_checkpoint(out, monkeypatch):
    folder = out / "net" / "seed0"
    longer = replace(RECIPE, trainer=replace(RECIPE.trainer, epochs=2))
    for name in OVERRIDES:  # as a run of two epochs leaves it after the first
        path = out / name / "seed0" / "config.yaml"
        tree = yaml.safe_load(path.read_text())
        tree["trainer"]["epochs"] = 2
        path.write_text(yaml.safe_dump(tree))
    before = torch.load(folder / LAST, weights_only=True)["global_step"]
    run_comparison(comparison(recipe=longer), out, only=["net"], on_progress=silent)
    assert [entry["epoch"] for entry in json.loads((folder / "history.json").read_text())] == [1, 2]
    assert torch.load(folder / LAST, weights_only=True)["global_step"] == 2 * before
    assert len(json.loads((out / "net_twin" / "seed0" / "history.json").read_text())) == 1


@pytest.mark.usefixtures("never_train")
def test_a_changed_recipe_is_refused_and_names_rows_and_keys(out):
    changed = replace(RECIPE, optimizer=replace(RECIPE.optimizer, lr=0.5))
    with pytest.raises(BinsegError) as caught:
        run_comparison(comparison(recipe=changed), out, on_progress=silent)
    assert "other values of optimizer.lr: net/seed0, net_twin/seed0" in str(caught.value)
    one = {**OVERRIDES, "net": {"model": {"name": "groupnet18", "bases": 3}}}
    with pytest.raises(BinsegError, match=r"other values of model\.bases: net/seed0;"):
        run_comparison(comparison(one), out, on_progress=silent)
    # where and how fast makes no difference
    moved = replace(RECIPE, trainer=replace(RECIPE.trainer, threads=1, overlays=2))
    assert len(run_comparison(comparison(recipe=moved), out, on_progress=silent).rows) == 2


@pytest.mark.usefixtures("never_train")
def test_keys_that_a_run_did_not_know_yet_have_their_defaults(out):
    path = out / "net" / "seed0" / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    del tree["model"]["stem"], tree["optimizer"]["warmup"]
    path.write_text(yaml.safe_dump(tree))
    assert len(run_comparison(comparison(), out, report=True, on_progress=silent).rows) == 2
    path.write_text("[1, 2")
    with pytest.raises(BinsegError, match=r"config\.yaml: cannot be read"):
        run_comparison(comparison(), out, report=True, on_progress=silent)


def test_report_trains_nothing(tmp_path, monkeypatch, out):
    monkeypatch.setattr(run, "train", None)
    shutil.rmtree(out / "net_twin")
    found = run_comparison(comparison(), out, report=True, on_progress=silent)
    assert [row.name for row in found.rows] == ["net"]
    assert found.rows[0].faster is None
    assert found.missing == ["net_twin, seed 0"]
    with pytest.raises(BinsegError, match="no network is trained"):
        run_comparison(comparison(), tmp_path / "new", report=True, on_progress=silent)


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BinsegError, match="a file; choose another --out"):
        run_comparison(comparison(), tmp_path / "file", on_progress=silent)
    with pytest.raises(BinsegError, match="unknown network 'nt'; did you mean 'net'"):
        run_comparison(comparison(), tmp_path / "new", only=["nt"], on_progress=silent)


# --- what goes wrong ---


@pytest.mark.parametrize("fault", [BinsegError("no luck"), RuntimeError("no\nluck")])
def test_a_training_that_fails_does_not_cost_the_others(out, monkeypatch, fault):
    def fake(experiment, folder, *, resume):
        raise fault

    monkeypatch.setattr(run, "train", fake)
    lines = []
    more = {"bad": {"model": {"name": "groupnet18", "bases": 2}}, **OVERRIDES}
    found = run_comparison(comparison(more), out, on_progress=lines.append)
    assert [row.name for row in found.rows] == ["net", "net_twin"]
    (name,), (reason,) = zip(*found.failures.items(), strict=True)
    assert name == "bad, seed 0"
    assert reason in ("no luck", "RuntimeError: no luck")
    assert not found.missing
    assert "Traceback" in (out / "bad" / "seed0" / run.FAILURE).read_text()
    assert f"bad, seed 0 failed: {reason}" in lines


def test_nothing_trained_is_an_error_that_says_why(tmp_path, monkeypatch):
    def fake(experiment, folder, *, resume):
        raise BinsegError("the disk is made of cheese")

    monkeypatch.setattr(run, "train", fake)
    with pytest.raises(BinsegError, match="net, seed 0: the disk is made of cheese"):
        run_comparison(comparison(), tmp_path / "out", on_progress=silent)


@pytest.mark.parametrize("stop", [StopRequestedError("stopped"), KeyboardInterrupt()])
def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, stop):
    def fake(experiment, folder, *, resume):
        raise stop

    monkeypatch.setattr(run, "train", fake)
    with pytest.raises(StopRequestedError, match="the same command goes on") as caught:
        run_comparison(comparison(), tmp_path / "out", on_progress=silent)
    assert caught.value.status == 130


@pytest.mark.usefixtures("never_train")
@pytest.mark.parametrize("fault", [BinsegError("no rule for it"), KeyError("no rule for it")])
def test_a_network_that_cannot_be_packed_keeps_its_row(out, monkeypatch, fault):
    def fake(model, **options):
        raise fault

    monkeypatch.setattr(measure, "pack", fake)
    made = comparison()
    found = run_comparison(made, out, on_progress=silent)
    net, twin = found.rows
    assert "no rule for it" in net.not_packed
    assert (net.milliseconds, net.faster, net.bytes, net.shipped_miou) == (None,) * 4
    assert net.trained_miou.value > 0
    assert net.binary_macs > 0
    assert twin.milliseconds > 0
    write_report(found, made, RECIPE, out)
    assert (out / "results.md").read_text().startswith("scenes, epochs: 1; ")
    first, second = json.loads((out / "results.json").read_text())["rows"]
    assert (first["shipped_miou"], second["not_packed"]) == (None, None)
    assert "no rule for it" in first["not_packed"]


@pytest.mark.usefixtures("never_train")
def test_int8_is_calibrated_on_training_images(out):
    found = run_comparison(comparison(other_layers="int8"), out, on_progress=silent)
    assert read_header(out / "net" / "seed0" / measure.PACKED)["other_layers"] == "int8"
    assert found.rows[0].not_packed is None


def model_file(path: Path, network) -> Path:
    save(path, network, DataConfig(name="scenes").label_table(), Preprocessing(short_side=24))
    return path


def test_latency_leaves_the_networks_and_the_threads_as_they_were(tmp_path):
    torch.manual_seed(0)
    network = create_model("groupnet18", num_classes=8, width=8, bases=1).eval()
    twin = create_model("groupnet18", num_classes=8, width=8, precision="full").eval()
    number = torch.get_num_threads()
    contenders = {
        "a": Contender(model_file(tmp_path / "a.safetensors", pack(network))),
        "b": Contender(load(model_file(tmp_path / "b.safetensors", twin))),
    }
    kept = {
        name: value.stride() for name, value in contenders["b"].network.model.state_dict().items()
    }
    found = measure_latency(contenders, LATENCY)
    assert list(found) == ["a", "b"]
    assert all(len(times.own.rounds) == 2 and times.own.seconds > 0 for times in found.values())
    assert all(times.int8 is None for times in found.values())
    twin = contenders["b"].network.model
    assert {name: value.stride() for name, value in twin.state_dict().items()} == kept
    assert torch.get_num_threads() == number


def test_the_class_map_that_is_timed_has_the_images_size(monkeypatch, tmp_path):
    """Whatever a network sees."""
    sizes = {}
    torch.manual_seed(0)
    network = create_model("groupnet18", num_classes=8, width=8, bases=1).eval()
    twin = create_model("groupnet18", num_classes=8, width=8, precision="full").eval()
    smp = create_model("smp_unet", num_classes=8, encoder="resnet18").eval()
    contenders = {"a": Contender(model_file(tmp_path / "a.safetensors", pack(network)))}
    for name, each in {"b": twin, "c": smp}.items():
        contenders[name] = Contender(load(model_file(tmp_path / f"{name}.safetensors", each)))

    def look(calls, **options):
        sizes.update({name: call().shape for name, call in calls.items()})
        return {name: Timing((1.0,)) for name in calls}

    monkeypatch.setattr(latency, "measure", look)
    measure_latency(contenders, LATENCY)
    assert {name.split(",")[0] for name in sizes} == {"a", "b", "c"}
    assert set(sizes.values()) == {(33, 47)}


@pytest.mark.openvino
@pytest.mark.usefixtures("never_train")
def test_full_precision_networks_in_8_bits(out):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    made = replace(comparison(), latency=replace(LATENCY, int8=True))
    net, twin = run_comparison(made, out, on_progress=silent).rows
    assert twin.int8_milliseconds > 0
    assert (net.int8_milliseconds, net.int8_miou) == (None, None)
    assert twin.int8_miou.value == pytest.approx(twin.shipped_miou.value, abs=0.05)
    assert net.faster_than_int8 == pytest.approx(twin.int8_milliseconds / net.milliseconds)
    assert (twin.faster, twin.faster_than_int8) == (None, None)


def test_a_start_brings_the_architecture_along(tmp_path, monkeypatch):
    path = tmp_path / "small.safetensors"
    labels = LabelTable("two", ("a", "b"), ((0, 0, 0), (9, 9, 9)), {})
    save(path, create_model("groupnet18", num_classes=2, bases=3, width=8), labels, Preprocessing())
    recipe, asked = replace(RECIPE, model=ModelConfig()), []

    def recorded(*name, **arguments):
        asked.append(arguments)
        return create_model(*name, **arguments)

    monkeypatch.setattr(segmenter, "create_model", recorded)
    check_buildable(networks_of(recipe, {"a": {"model": {"start": str(path)}}}), 5)
    last = asked[-1]
    assert (last["num_classes"], last["bases"], last["width"]) == (5, 3, 8)
    with pytest.raises(BinsegError, match=r"networks\.b: .*nowhere\.safetensors"):
        check_buildable(networks_of(recipe, {"b": {"model": {"start": "nowhere.safetensors"}}}), 5)


def test_checking_takes_no_weights_from_anywhere(monkeypatch):
    asked = []
    monkeypatch.setattr(segmenter, "create_model", lambda **arguments: asked.append(arguments))
    rows = networks_of(
        RECIPE, {"a": {"model": {"name": "smp_unet", "encoder_weights": "imagenet"}}}
    )
    check_buildable(rows, 5)
    assert asked[0]["num_classes"] == 5
    assert "encoder_weights" not in asked[0]
