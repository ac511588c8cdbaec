"""What happens inside a run, step by step, against the definitions."""

from dataclasses import replace

import pytest
import torch
from test_run import history, tiny

from binseg.data.module import SegmentationData
from binseg.loaded import load
from binseg.nn.activations import BinaryActivation
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import create_model
from binseg.training.batchnorm import reestimate_batchnorm
from binseg.training.config import BinarizationConfig, DistillationConfig, OptimizerConfig
from binseg.training.losses import SegmentationLoss, distillation_loss
from binseg.training.module import SegmentationModule
from binseg.training.optimization import learning_rate_factor
from binseg.training.run import train

EPOCHS, PER_EPOCH = 5, 6


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run of three steps (1 + 1 + 3 epochs); what was in force at each training step."""
    experiment = tiny(epochs=EPOCHS, ema=0.75, validate_every=10)
    experiment = replace(
        experiment,
        model=replace(experiment.model, gradient="ede"),
        optimizer=OptimizerConfig(lr=1e-3, schedule="cosine", warmup=0.0),
        binarization=BinarizationConfig(smooth_epochs=1, activation_epochs=1),
    )
    records = []
    original = SegmentationModule.optimizer_step

    def record(self, *args, **kwargs):
        (binary,) = {
            (m.binarize_input.mode, m.weight_mode)
            for m in self.network.modules()
            if isinstance(m, BinaryConv2d)
        }
        (temperature,) = {
            m.temperature for m in self.network.modules() if isinstance(m, BinaryActivation)
        }
        lr = self.optimizers().param_groups[0]["lr"]
        original(self, *args, **kwargs)
        weight = self.network.backbone.stem[0].weight.detach().clone()
        records.append({"modes": binary, "t": temperature, "lr": lr, "weight": weight})

    patch = pytest.MonkeyPatch()
    patch.setattr(SegmentationModule, "optimizer_step", record)
    folder = tmp_path_factory.mktemp("recorded") / "run"
    try:
        result = train(experiment, folder)
    finally:
        patch.undo()
    return experiment, result, records


def test_the_steps_follow_the_plan(recorded):
    _, _, records = recorded
    modes = [record["modes"] for record in records]
    assert modes == (
        [("tanh", "real")] * PER_EPOCH
        + [("sign", "real")] * PER_EPOCH
        + [("sign", "binary")] * 3 * PER_EPOCH
    )


def test_the_learning_rate_begins_anew_with_each_step(recorded):
    experiment, _, records = recorded
    expected = [
        1e-3 * learning_rate_factor(experiment.optimizer, step, epochs * PER_EPOCH)
        for epochs in (1, 1, 3)
        for step in range(epochs * PER_EPOCH)
    ]
    assert [record["lr"] for record in records] == pytest.approx(expected)


def test_the_temperature_rises_from_first_to_last(recorded):
    _, _, records = recorded
    total = EPOCHS * PER_EPOCH
    expected = [0.1 * 100 ** (step / total) for step in range(total)]
    assert [record["t"] for record in records] == pytest.approx(expected)


def test_the_average_begins_anew_with_each_step(recorded):
    """Over the steps of the binary epochs alone: a = w at first, then a = d·a + (1 − d)·w."""
    _, result, records = recorded
    weights = [record["weight"] for record in records[2 * PER_EPOCH :]]
    average = weights[0]
    for weight in weights[1:]:
        average = 0.75 * average + 0.25 * weight
    saved = load(result.model).model.state_dict()["backbone.stem.0.weight"]
    torch.testing.assert_close(saved, average)


def test_every_step_ends_with_a_validation(recorded):
    _, result, _ = recorded
    validated = [entry["epoch"] for entry in history(result.folder) if "val_miou" in entry]
    assert validated == [1, 2, 5]


def test_saved_statistics_are_those_of_unaugmented_images(recorded):
    experiment, result, _ = recorded
    network = load(result.model).model
    saved = {name: buffer.clone() for name, buffer in network.named_buffers() if "running" in name}
    data = SegmentationData(experiment.data)
    batches = (batch["image"] for batch in data.calibration_batches())
    reestimate_batchnorm(network, batches, data.preprocessing.normalize)
    for name, buffer in network.named_buffers():
        if "running" in name:
            torch.testing.assert_close(buffer, saved[name], rtol=1e-5, atol=1e-6)


def test_the_teachers_term_is_added_with_its_weight():
    torch.manual_seed(0)
    experiment = replace(
        tiny(ema=0.0), distillation=DistillationConfig(weight=2.5, temperature=3.0)
    )
    data = SegmentationData(experiment.data)
    student, teacher = (
        create_model("groupnet18", num_classes=8, bases=1, width=8, head_options={"dropout": 0.0})
        for _ in range(2)
    )
    module = SegmentationModule(
        student, experiment, data.labels, data.preprocessing, teacher=teacher
    )
    batch = next(iter(data.calibration_batches()))
    student.eval()
    found = module.training_step(batch, 0)
    images = data.preprocessing.normalize(batch["image"])
    logits, target = student(images), teacher(images)
    expected = SegmentationLoss(experiment.loss)(logits, batch["label"])
    expected = expected + 2.5 * distillation_loss(logits, target, batch["label"], 3.0)
    torch.testing.assert_close(found, expected)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any("teacher" in name for name in module.state_dict())
