"""The Lightning module: what one training step and one validation are."""

from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from binseg.data.labels import LabelTable
from binseg.data.module import Batch, SegmentationData
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.evaluation.confusion import ConfusionMatrix, Scores
from binseg.evaluation.upsample import upsampled_argmax
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import Segmenter
from binseg.training.batchnorm import reestimate_batchnorm
from binseg.training.binarization import Step, plan_steps, set_temperature, step_at
from binseg.training.config import BinarizationConfig, Experiment
from binseg.training.losses import SegmentationLoss, distillation_loss
from binseg.training.optimization import (
    adopt_settings,
    create_optimizer,
    learning_rate_factor,
)


class SegmentationModule(L.LightningModule):
    """Trains a `Segmenter`; validates with re-estimated BatchNorm statistics in float32.

    Learning rate, binarization step, temperature and the seed of dropout are functions of the
    step's number alone and kept nowhere, so that a resumed run cannot differ in them.

    Args:
        network: what is trained.
        experiment: the whole configuration.
        labels: the data set's classes.
        preprocessing: how uint8 pictures become input.
        class_weights: float32 (C,) for the loss, or None.
        teacher: full-precision network with the same classes and input, or None.

    Attributes:
        scores: of the latest validation, over all processes; None before.
        step: the binarization step in force.
    """

    loss_sum: Tensor
    loss_steps: Tensor

    def __init__(
        self,
        network: Segmenter,
        experiment: Experiment,
        labels: LabelTable,
        preprocessing: Preprocessing,
        *,
        class_weights: Tensor | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.experiment = experiment
        self.labels = labels
        self.preprocessing = preprocessing
        self.loss = SegmentationLoss(experiment.loss, class_weights)
        binary = any(isinstance(m, BinaryConv2d) for m in network.modules())
        self.steps = plan_steps(
            experiment.binarization if binary else BinarizationConfig(), experiment.trainer.epochs
        )
        self.step: Step | None = None
        self.scores: Scores | None = None
        self.matrix = ConfusionMatrix(labels.num_classes)
        self._has_temperature = any(
            "ede" in (getattr(m, "gradient", None), getattr(m, "weight_gradient", None))
            for m in network.modules()
        )
        decay = experiment.trainer.ema
        self.average: AveragedModel | None = None
        if decay:
            self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
            self.average.requires_grad_(False)
        # in a tuple, so that the teacher is no part of the state and is not trained
        self._teacher = (teacher.eval().requires_grad_(False),) if teacher is not None else ()
        # sums of the epoch so far, kept in checkpoints: a resumed epoch reports the same mean
        self.register_buffer("loss_sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("loss_steps", torch.zeros((), dtype=torch.int64))

    @property
    def evaluated(self) -> Segmenter:
        """The network that is scored and saved: the moving average if there is one."""
        return cast(Segmenter, self.average.module) if self.average is not None else self.network

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return create_optimizer(self.network, self.experiment.optimizer)

    # --- training ---

    def on_fit_start(self) -> None:
        for teacher in self._teacher:
            teacher.to(self.device)

    def on_train_start(self) -> None:
        optimizer = cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False))
        adopt_settings(optimizer, self.network, self.experiment.optimizer)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._enter_step(self.current_epoch)
        if batch_idx == 0:
            self.loss_sum.zero_()
            self.loss_steps.zero_()
            if self.average is not None and self.step and self.current_epoch == self.step.start:
                # the average begins anew: one over real weights says nothing of binary ones
                self.average.n_averaged.zero_()
        factor = self._learning_rate_factor()
        for group in cast(torch.optim.Optimizer, self.optimizers()).param_groups:
            group["lr"] = group["peak_lr"] * factor
        seed = self.experiment.trainer.seed * 1_000_003 + self.current_epoch * 100_003 + batch_idx
        torch.manual_seed(seed * 1009 + self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images = self.preprocessing.normalize(batch["image"])
        labels = batch["label"]
        logits = self.network(images)
        loss = self.loss(logits, labels)
        distillation = self.experiment.distillation
        for teacher in self._teacher:
            with torch.no_grad():
                target = teacher(images)
            loss = loss + distillation.weight * distillation_loss(
                logits, target, labels, distillation.temperature
            )
        self._check_finite(loss, batch_idx)
        self.loss_sum += loss.detach()
        self.loss_steps += 1
        return loss

    def _check_finite(self, loss: Tensor, batch_idx: int) -> None:
        """Stop before a loss that is no number spoils the weights and the next checkpoint."""
        # asking a GPU for a number makes it wait, so not at every step
        asked = self.device.type == "cpu" or batch_idx % 50 == 0
        if asked and not bool(torch.isfinite(loss)):
            raise BinsegError(
                f"the loss is no longer a number (epoch {self.current_epoch + 1}, step "
                f"{self.global_step}); lower optimizer.lr or set optimizer.clip_gradient, and "
                "start again or --resume from the last checkpoint"
            )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # here and not at the batch's end, which comes after callbacks have written checkpoints
        if self.average is not None:
            self.average.update_parameters(self.network)

    @property
    def mean_loss(self) -> float:
        """Mean loss of the epoch so far, on this process; nan before its first step."""
        return float(self.loss_sum / self.loss_steps)

    def _enter_step(self, epoch: int) -> None:
        step = step_at(self.steps, epoch)
        if step is not self.step:
            self.step = step
            step.apply(self.network)
            if self.average is not None:
                step.apply(self.average)
        if self._has_temperature:
            total = self.trainer.estimated_stepping_batches
            set_temperature(
                self.network, self.experiment.binarization, self.global_step / float(total)
            )

    def _learning_rate_factor(self) -> float:
        config = self.experiment
        total = int(self.trainer.estimated_stepping_batches)
        step = self.global_step
        if not config.binarization.restart_schedule:
            return learning_rate_factor(config.optimizer, step, total)
        assert self.step is not None
        per_epoch = total // config.trainer.epochs
        start, end = self.step.start * per_epoch, self.step.end * per_epoch
        return learning_rate_factor(config.optimizer, step - start, end - start)

    # --- validation ---

    def on_validation_epoch_start(self) -> None:
        self.matrix.reset()
        self._enter_step(self.current_epoch)
        data = cast(SegmentationData, self.trainer.datamodule)  # type: ignore[attr-defined]
        batches = (batch["image"] for batch in data.calibration_batches())
        with torch.autocast(self.device.type, enabled=False):
            reestimate_batchnorm(
                self.evaluated,
                batches,
                lambda images: self.preprocessing.normalize(images.to(self.device)),
            )
        self.evaluated.eval()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Score a batch; "class_maps" are uint8 (H, W), at the labels' resolution."""
        with torch.autocast(self.device.type, enabled=False):
            logits = self.evaluated(self.preprocessing.normalize(batch["image"]))
        maps = []
        for scores, label in zip(logits, batch["label"], strict=True):
            size = (label.shape[0], label.shape[1])
            maps.append(torch.from_numpy(upsampled_argmax(scores, size)))
            self.matrix.update(maps[-1].to(label.device), label)
        return {"class_maps": maps}

    def on_validation_epoch_end(self) -> None:
        self.scores = Scores.of(self.matrix.compute(), self.labels.names)
        if self.average is None:
            self.network.train()
