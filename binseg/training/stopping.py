"""Trainings that end before their last epoch: no better score any more, or the time is over."""

from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, Timer

from binseg.training.binary_module import BinaryModule


class Patience(EarlyStopping):
    """Ends a training after so many validations without a better score.

    Only validations of the fully binary network count: the scores of the steps before it are no
    measure for it.

    Args:
        monitor: key of the score, higher is better.
        patience: that many.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__(
            monitor, patience=patience, mode="max", check_on_train_epoch_end=False, verbose=False
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended the training."""
        return self.wait_count >= self.patience

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.is_over  # a run that it ended is resumed

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, BinaryModule)
        if pl_module.step is not None and pl_module.step.final:
            super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        configured = self.patience
        super().load_state_dict(state_dict)
        self.patience = configured


class TimeLimit(Timer):
    """Ends a training after so many hours, those before it was resumed included.

    The step at hand is finished, and the network validated once more.

    Args:
        hours: of training and validation.
    """

    def __init__(self, hours: float) -> None:
        super().__init__(timedelta(hours=hours), verbose=False)

    @property
    def is_over(self) -> bool:
        """Whether it has ended the training."""
        return self.time_elapsed() >= self._duration  # type: ignore[operator]

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        batch_idx = args[-1]
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return  # a checkpoint holds no gradients
        super().on_train_batch_end(trainer, *args, **kwargs)
        if trainer.should_stop:
            trainer.check_val_every_n_epoch = 1
