"""Runs that begin at a trained network: what they take over, refuse, and need again."""

import json
from dataclasses import replace

import pytest
import torch
import yaml

import binseg
from binseg import shipped
from binseg.cli import main
from binseg.data.config import DataConfig
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError, BinsegWarning
from binseg.loaded import load, read_header, save
from binseg.model_card import model_card
from binseg.training.config import Experiment, ModelConfig, OptimizerConfig, TrainerConfig
from binseg.training.run import train

OPTIONS = {
    "bases": 2, "width": 8, "head": "fcn8s", "output_stride": 16, "atrous": "bpac", "rates": [3, 5],
    "head_options": {"kernel_size": 1},
}  # fmt: skip
SEEN = Preprocessing((0.4, 0.5, 0.6), (0.3, 0.2, 0.1), 40)
NAMES = ("tree", "zebra", "sky", "road")  # three of the scenes', in another order


def table(names):
    return LabelTable("made up", tuple(names), tuple((i, i, i) for i in range(len(names))), {})


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A float file with random weights and statistics."""
    torch.manual_seed(3)
    model = binseg.create_model("groupnet18_star", num_classes=len(NAMES), **OPTIONS)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1)
    path = tmp_path_factory.mktemp("start") / "first.safetensors"
    save(path, model, table(NAMES), SEEN)
    return path


def experiment(start, lr=1e-12, epochs=1, **model) -> Experiment:
    return Experiment(
        data=DataConfig(
            name="scenes", crop=(32, 48), scenes_size=(32, 48), scenes_train=4, scenes_val=2,
            batch_size=2, calibration_images=2,
        ),
        model=ModelConfig(start=str(start), **model),
        optimizer=OptimizerConfig(lr=lr),
        trainer=TrainerConfig(epochs=epochs, overlays=0),
    )  # fmt: skip


def test_outputs_of_equal_names_are_taken_over_and_others_are_new(first):
    classes = ["sky", "elephant", "tree"]
    network = binseg.create_model(start=first, classes=classes)
    assert network.num_classes == 3
    old, new = load(first).model.state_dict(), network.state_dict()
    outputs = [name for name in new if new[name].shape != old[name].shape]
    # scores of the last map and of two skips, weights and biases
    assert len(outputs) == 6
    for name in outputs:
        assert torch.equal(new[name][[0, 2]], old[name][[2, 0]])
        assert not torch.isin(new[name][1], old[name]).any()
    assert all(torch.equal(new[name], old[name]) for name in new if name not in outputs)


def test_the_same_classes_give_the_same_network(first):
    one = load(first).model.state_dict()
    other = binseg.create_model(start=first).state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_permuted_classes_permute_the_scores(first):
    permuted = [NAMES[place] for place in (2, 0, 3, 1)]
    images = torch.rand(1, 3, 32, 48)
    before = load(first).model(images)
    after = binseg.create_model(start=first, classes=permuted).eval()(images)
    torch.testing.assert_close(after, before[:, [2, 0, 3, 1]])


@pytest.mark.parametrize("name", ["fast_scnn", "smp_fpn"])
def test_other_families_start_too(tmp_path, name):
    options = {"encoder": "resnet18", "encoder_weights": None} if name == "smp_fpn" else {}
    path = tmp_path / "first.safetensors"
    save(path, binseg.create_model(name, num_classes=4, **options), table(NAMES), SEEN)
    network = binseg.create_model(start=path, classes=["road", "new"])
    old, new = load(path).model.state_dict(), network.state_dict()
    changed = [key for key in new if not torch.equal(new[key], old[key])]
    assert changed
    assert all(torch.equal(new[key][0], old[key][3]) for key in changed)


def test_a_run_begins_at_a_file_and_goes_on_without_it(first, tmp_path):
    moved = first.with_name("moved.safetensors")
    moved.write_bytes(first.read_bytes())
    folder = tmp_path / "run"
    run = experiment(moved, dropout=0.25, merge="learnt")  # the default, said aloud
    result = train(run, folder)

    config = yaml.safe_load((folder / "config.yaml").read_text())
    given = {key: value for key, value in config["model"].items() if value is not None}
    assert given == {
        "name": "groupnet18_star", "start": str(moved), "head_kernel": 1, "dropout": 0.25,
        "merge": "learnt",
        **{key: value for key, value in OPTIONS.items() if key != "head_options"},
    }  # fmt: skip
    loaded = load(result.model)
    assert loaded.preprocessing == SEEN
    assert loaded.labels.names == tuple(run.data.label_table().names)
    before = load(first).model.state_dict()
    for name, parameter in loaded.model.named_parameters():
        if parameter.shape == before[name].shape:
            torch.testing.assert_close(parameter, before[name], rtol=0, atol=1e-6, msg=name)
    log = (folder / "train.log").read_text()
    assert "outputs kept for sky, road, tree; new for" in log
    header = read_header(result.model)
    assert header["training"]["start"] == "moved.safetensors"
    assert "| started from | moved.safetensors |" in model_card(header, 1, "x")

    moved.unlink()
    longer = replace(run, trainer=replace(run.trainer, epochs=2))
    train(longer, folder, resume=True)
    assert len(json.loads((folder / "history.json").read_text())) == 2
    # by the command line alone, too
    assert main(["train", "--resume", "--out", str(folder), "--trainer.epochs", "3"]) == 0


def test_keys_that_differ_from_the_start_are_refused(first, tmp_path):
    with pytest.raises(BinsegError, match=r"model\.bases is 2 there, not 4.*leave those out"):
        train(experiment(first, bases=4, rates=(3, 5)), tmp_path / "run")
    with pytest.raises(BinsegError, match=r"model\.gates is per_branch there, not none"):
        train(experiment(first, gates="none"), tmp_path / "run")
    with pytest.raises(BinsegError, match=r"model\.name is groupnet18_star there, not groupnet18;"):
        train(experiment(first, name="groupnet18"), tmp_path / "run")
    with pytest.raises(BinsegError, match=r"leave model\.backbone_weights out"):
        train(experiment(first, backbone_weights=first), tmp_path / "run")
    with pytest.raises(BinsegError, match="brings the whole architecture along"):
        binseg.create_model("groupnet18", start=first)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_bits_cannot_be_trained(first, tmp_path, monkeypatch):
    packed = tmp_path / "packed.safetensors"
    loaded = load(first)
    save(packed, binseg.pack(loaded.model, preprocessing=SEEN), loaded.labels, SEEN)
    with pytest.raises(BinsegError, match=r"packed network.*float file that it was packed from"):
        train(experiment(packed), tmp_path / "run")
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(BinsegError, match=r"camvid-base: comes packed.*camvid_base\.safetensors"):
        train(experiment("camvid-base"), tmp_path / "run")
    (tmp_path / "camvid_base.safetensors").write_bytes(first.read_bytes())
    assert binseg.create_model(start="camvid-base").num_classes == len(NAMES)


def test_the_old_name_still_works(first):
    with pytest.warns(BinsegWarning, match=r"model\.start"):
        assert ModelConfig(weights=first).start == str(first)
