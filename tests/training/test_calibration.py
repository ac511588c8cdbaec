"""Class biases and statistics of a trained network, measured anew."""

from pathlib import Path

import pytest
import torch
from torch import nn
from trained_networks import images, trained

from binseg.cli import main
from binseg.cli.calibrate import calibrate_command
from binseg.data.config import DataConfig
from binseg.errors import BinsegError
from binseg.evaluation.scores import Scores, confusion
from binseg.loaded import load, save
from binseg.nn.heads import HEADS
from binseg.nn.segmenter import create_model
from binseg.training.class_biases import add_class_biases, fit_class_biases, pixel_scores
from binseg.training.config import Experiment, ModelConfig, TrainerConfig
from binseg.training.run import TrainingResult, train


def test_biases_that_were_taken_away_are_found():
    torch.manual_seed(0)
    scores = torch.randn(20_000, 4)
    hidden = torch.tensor([1.0, 0.0, -1.0, 0.5])
    labels = (scores + hidden).argmax(1)
    found = fit_class_biases(scores, labels)
    torch.testing.assert_close(found.biases, hidden - hidden.mean(), atol=0.06, rtol=0)
    assert found.before < 0.75
    assert found.after > 0.96
    for value, shift in ((found.before, 0), (found.after, found.biases)):
        matrix = confusion((scores + shift).argmax(1), labels, 4)
        assert value == pytest.approx(Scores.of(matrix, list("abcd")).mean_iou, abs=1e-9)


def test_a_class_without_a_pixel_counts_nowhere():
    torch.manual_seed(0)
    scores = torch.randn(2_000, 3)
    scores[:, 2] += 0.5  # is often found and never there
    labels = scores[:, :2].argmax(1)
    found = fit_class_biases(scores, labels)
    assert found.after > found.before
    matrix = confusion((scores + found.biases).argmax(1), labels, 3).double()
    iou = matrix.diagonal() / (matrix.sum(0) + matrix.sum(1) - matrix.diagonal())
    assert found.after == pytest.approx(iou[:2].mean().item())


def test_scores_that_are_best_already_stay():
    scores = torch.eye(3).repeat(100, 1) * 9
    found = fit_class_biases(scores, scores.argmax(1))
    assert (found.biases.tolist(), found.before, found.after) == ([0, 0, 0], 1, 1)


def test_nothing_to_fit_on():
    with pytest.raises(BinsegError, match="no image has a labelled pixel"):
        fit_class_biases(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def test_pixels_are_labelled_ones_spread_over_the_image():
    classes, height, width = 2**13, 8, 16  # so many that 16 pixels are kept
    truth = torch.arange(height * width, dtype=torch.uint8).reshape(height, width) % 100
    truth[:4] = 255

    class Places(nn.Module):
        def forward(self, x):
            at = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
            return at.expand(len(x), classes, height, width)

    batch = {"image": torch.zeros(2, 3, height, width), "label": truth[None].expand(2, -1, -1)}
    scores, labels = pixel_scores(Places(), [batch], lambda x: x)
    expected = torch.arange(64, 128, 4)
    assert scores[:, 0].tolist() == expected.repeat(2).tolist()
    assert labels.tolist() == (expected % 100).repeat(2).tolist()


@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_a_place_for_them(head):
    check_shift(trained(head=head), images(64, 96))


def test_so_have_baselines_and_networks_of_smp():
    torch.manual_seed(0)
    fast = create_model("fast_scnn", num_classes=5).eval()
    check_shift(fast, images(64, 96))
    check_shift(
        create_model("smp_unet", num_classes=5, encoder_weights=None).eval(), images(64, 96)
    )


@torch.inference_mode()
def check_shift(model: nn.Module, x: torch.Tensor) -> None:
    biases = torch.tensor([1.0, -0.5, 0.25, 0.0, -0.75])
    before = model(x)
    add_class_biases(model, biases, x[:1])
    torch.testing.assert_close(model(x), before + biases[:, None, None], rtol=1e-3, atol=1e-3)


def test_a_network_without_a_place_stays_as_it_is():
    class Scaled(nn.Module):
        """Its only number of that shape is no bias of the scores."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1)
            self.last = nn.Conv2d(3, 3, 1, bias=False)

        def forward(self, x):
            return self.last(self.first(x))

    torch.manual_seed(0)
    network = Scaled()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(BinsegError, match="--no-biases"):
        add_class_biases(network, torch.tensor([1.0, 0.0, -1.0]), torch.rand(1, 3, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    data = DataConfig(
        name="scenes", crop=(32, 48), scenes_size=(32, 48), scenes_train=12, scenes_val=3
    )
    data.batch_size, data.calibration_images = 4, 6
    model = ModelConfig(name="groupnet18", bases=1, width=8)
    trainer = TrainerConfig(epochs=1, overlays=0)
    return train(Experiment(data=data, model=model, trainer=trainer), tmp_path_factory.mktemp("r"))


def test_a_run_is_measured_on_its_own_data(
    run: TrainingResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "calibrated.safetensors"
    assert main(["calibrate", str(run.folder), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "shown: 6 images of 12 images\nstatistics of " in printed
    before, after = load(run.model), load(out)
    old, new = before.model.state_dict(), after.model.state_dict()
    changed = [name for name in old if not torch.equal(old[name], new[name])]
    # its statistics were those of these images
    assert [name for name in changed if not name.endswith("num_batches_tracked")] == [
        "head.score.4.bias"
    ]
    added = after.header["training"]["calibrated"]["class_biases"]
    difference = new["head.score.4.bias"] - old["head.score.4.bias"]
    torch.testing.assert_close(difference, torch.tensor(list(added.values())))
    assert "val_miou" in before.header["training"]
    assert "val_miou" not in after.header["training"]
    # scored on the data of the run, which need not be named either
    assert main(["evaluate", str(run.folder), "--no-boundary"]) == 0
    assert "scenes val" in capsys.readouterr().out


def test_statistics_of_other_images(run: TrainingResult, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    data = DataConfig(name="scenes", crop=(32, 48), scenes_size=(48, 48), seed=7, scenes_train=8)
    assert calibrate_command(run.model, data=data, out=out, biases=False, device="cpu") == 0
    old, new = load(run.model).model.state_dict(), load(out).model.state_dict()
    changed = {name.rpartition(".")[2] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}


def test_refused(run: TrainingResult, tmp_path: Path) -> None:
    scenes, out = DataConfig(name="scenes", scenes_train=4), tmp_path / "out.safetensors"
    for model, data, message in (
        (run.model, scenes, "is the trained network itself"),
        (Path("camvid-small"), scenes, "float weights|other classes"),
        (run.model, DataConfig(name="scenes", classes=["road"]), "other classes"),
    ):
        target = run.model if "itself" in message else out
        with pytest.raises(BinsegError, match=message):
            calibrate_command(model, data=data, out=target)
    with pytest.raises(BinsegError, match="nothing to do"):
        calibrate_command(run.model, data=scenes, out=out, statistics=False, biases=False)
    with pytest.raises(BinsegError, match=r"ends in \.safetensors"):
        calibrate_command(run.model, data=scenes, out=tmp_path / "out.pt")
    assert not out.exists()


def test_damaged_weights_are_refused(run: TrainingResult, tmp_path: Path) -> None:
    loaded, broken = load(run.model), tmp_path / "broken.safetensors"
    loaded.model.state_dict()["head.score.4.weight"][:] = torch.nan
    save(broken, loaded.model, loaded.labels, loaded.preprocessing)
    data = DataConfig(name="scenes", scenes_size=(32, 48), scenes_train=2)
    with pytest.raises(BinsegError, match="its weights are damaged"):
        calibrate_command(broken, data=data, out=tmp_path / "out.safetensors", statistics=False)
