"""A run that is stopped and resumed sees the batches of one that never stopped."""

from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from binseg.data.config import DataConfig
from binseg.data.module import SegmentationData

Record = list[tuple[tuple[str, ...], bytes]]


class Recorder(lightning.LightningModule):
    """Learns nothing to speak of, but writes down every batch that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.record: Record = []

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        self.record.append((tuple(batch["name"]), batch["image"].numpy().tobytes()))
        return self.weight * batch["image"].float().mean()

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class SaveAt(Callback):
    """Writes a checkpoint after `step` batches, in the hook where ModelCheckpoint does."""

    def __init__(self, path: Path, step: int, hook: str) -> None:
        self.path, self.step, self.hook = path, step, hook

    def _save(self, trainer: lightning.Trainer, hook: str) -> None:
        if hook == self.hook and trainer.global_step == self.step and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        self._save(trainer, "batch")

    def on_validation_end(self, trainer: lightning.Trainer, *_: object) -> None:
        self._save(trainer, "validation")

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        self._save(trainer, "epoch")


def data(workers: int, **changes: object) -> SegmentationData:
    settings: dict = {"crop": (32, 32), "batch_size": 2, "scenes_train": 6, "scenes_val": 1}
    settings |= {"scenes_size": (32, 48), "workers": workers, **changes}
    return SegmentationData(DataConfig(name="scenes", **settings))


def fit(
    module: SegmentationData,
    steps: int,
    *,
    resume: Path | None = None,
    callbacks: tuple[Callback, ...] = (),
    **options: object,
) -> Record:
    model = Recorder()
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(model, datamodule=module, ckpt_path=resume, weights_only=True)
    return model.record


@pytest.mark.parametrize("workers", [0, 2])
def test_eight_batches_equal_five_and_three(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "at5.ckpt"
    straight = fit(data(workers), 8)
    first = fit(data(workers), 5, callbacks=(SaveAt(path, 5, "batch"),))
    rest = fit(data(workers), 8, resume=path)
    assert len(straight) == 8
    assert len({names for names, _ in straight}) > 3, "the order must change from epoch to epoch"
    assert first + rest == straight


@pytest.mark.parametrize(
    ("hook", "step"),
    [
        *[("batch", step) for step in (1, 2, 3, 4, 6)],
        *[(hook, step) for hook in ("validation", "epoch") for step in (3, 6)],
    ],
)
def test_resume_at_any_batch_and_hook(tmp_path: Path, hook: str, step: int) -> None:
    """Epochs have three batches: in the middle, and at the end before and after validation."""
    path = tmp_path / "a.ckpt"
    straight = fit(data(0), 11, callbacks=(SaveAt(path, step, hook),))
    assert fit(data(0), 11, resume=path) == straight[step:]


def test_resume_of_a_resumed_run(tmp_path: Path) -> None:
    first, second = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    straight = fit(data(0), 11, callbacks=(SaveAt(first, 3, "batch"),))
    fit(data(0), 11, resume=first, callbacks=(SaveAt(second, 6, "batch"),))
    assert fit(data(0), 11, resume=second) == straight[6:]


def test_resume_with_limited_epochs(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    limit = {"limit_train_batches": 2}
    straight = fit(data(0), 7, callbacks=(SaveAt(path, 3, "batch"),), **limit)
    assert fit(data(0), 7, resume=path, **limit) == straight[3:]


def test_changed_batch_size_is_said_and_trains_on(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    fit(data(0), 4, callbacks=(SaveAt(path, 4, "batch"),))
    with pytest.warns(UserWarning, match="an epoch now has 2 batches, 3 when"):
        record = fit(data(0, batch_size=3), 8, resume=path)
    assert len(record) == 4
    assert all(len(names) == 3 for names, _ in record)
