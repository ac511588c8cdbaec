"""What every training of a binary network does, whatever its network is for."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.nn.layers import BinaryConv2d
from binseg.training.batchnorm import reestimate_batchnorm
from binseg.training.binarization import Step, plan_steps, set_temperature, step_at
from binseg.training.config import (
    BinarizationConfig,
    DistillationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)
from binseg.training.optimization import (
    adopt_settings,
    create_optimizer,
    learning_rate_factor,
)

Network = TypeVar("Network", bound=nn.Module)


class Recipe(Protocol):
    """The parts that every configuration has."""

    @property
    def data(self) -> Any:
        """Of what is learnt from; has a `name`."""

    model: ModelConfig
    optimizer: OptimizerConfig
    binarization: BinarizationConfig
    distillation: DistillationConfig
    trainer: TrainerConfig


class BinaryModule(L.LightningModule, Generic[Network]):
    """Trains a network in the steps of its binarization; base of the modules for each task.

    Learning rate, binarization step, temperature and the seed of dropout are functions of the
    step's number alone and kept nowhere, so that a resumed run cannot differ in them.

    Args:
        network: what is trained.
        recipe: the whole configuration.
        preprocessing: how uint8 images become input.
        teacher: full-precision network with the same classes and input, or None.

    Attributes:
        step: the binarization step in force.
        figure_names: of a validation: key in the history → name for people; the first decides
            which network is the best.
        figures: of the latest validation, by those keys; {} before.
    """

    figure_names: ClassVar[dict[str, str]]
    loss_sum: Tensor
    loss_steps: Tensor

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        preprocessing: Preprocessing,
        teacher: nn.Module | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.preprocessing = preprocessing
        binary = any(isinstance(m, BinaryConv2d) for m in network.modules())
        self.steps = plan_steps(
            recipe.binarization if binary else BinarizationConfig(), recipe.trainer.epochs
        )
        self.step: Step | None = None
        self.figures: dict[str, float] = {}
        self._has_temperature = any(
            "ede" in (getattr(m, "gradient", None), getattr(m, "weight_gradient", None))
            for m in network.modules()
        )
        decay = recipe.trainer.ema
        self.average: AveragedModel | None = None
        if decay:
            self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
            self.average.requires_grad_(False)
        # in a tuple, so that the teacher is no part of the state and is not trained
        self._teacher: tuple[nn.Module, ...] = ()
        if teacher is not None:
            self._teacher = (teacher.eval().requires_grad_(False),)
        # sums of the epoch so far, kept in checkpoints: a resumed epoch reports the same mean
        self.register_buffer("loss_sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("loss_steps", torch.zeros((), dtype=torch.int64))

    @property
    def evaluated(self) -> Network:
        """The network that is scored and saved: the moving average if there is one."""
        return cast(Network, self.average.module) if self.average is not None else self.network

    @property
    def trained(self) -> nn.Module:
        """Whose parameters the optimizer changes."""
        return self.network

    def configure_optimizers(self) -> torch.optim.Optimizer:
        fused = self.recipe.trainer.precision != "fp16"
        return create_optimizer(self.trained, self.recipe.optimizer, fused=fused)

    # --- training ---

    def compiled(self, call: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """A method of the network as training calls it: compiled if the recipe says so."""
        return torch.compile(call) if self.recipe.trainer.compile else call

    def on_fit_start(self) -> None:
        for teacher in self._teacher:
            teacher.to(self.device)

    def on_train_start(self) -> None:
        optimizer = cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False))
        adopt_settings(optimizer, self.trained, self.recipe.optimizer)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.enter_step(self.current_epoch)
        if batch_idx == 0:
            self.loss_sum.zero_()
            self.loss_steps.zero_()
            if self.average is not None and self.step and self.current_epoch == self.step.start:
                # the average begins anew: one over real weights says nothing of binary ones
                self.average.n_averaged.zero_()
        factor = self._learning_rate_factor()
        for group in cast(torch.optim.Optimizer, self.optimizers()).param_groups:
            group["lr"] = group["peak_lr"] * factor
        seed = self.recipe.trainer.seed * 1_000_003 + self.current_epoch * 100_003 + batch_idx
        torch.manual_seed(seed * 1009 + self.global_rank)

    def count_loss(self, loss: Tensor, batch_idx: int) -> None:
        """Log it, add it to the epoch's mean, and stop before one that is no number spoils the
        weights."""
        # asking a GPU for a number makes it wait, so not at every step
        asked = self.device.type == "cpu" or batch_idx % 50 == 0
        if asked and not bool(torch.isfinite(loss)):
            compiled = "leave out trainer.compile, " if self.recipe.trainer.compile else ""
            raise BinsegError(
                f"the loss is no longer a number (epoch {self.current_epoch + 1}, step "
                f"{self.global_step}); {compiled}lower optimizer.lr or set "
                "optimizer.clip_gradient, and start again or --resume from the last checkpoint"
            )
        self.loss_sum += loss.detach()
        self.loss_steps += 1
        self.log("loss_step", loss.detach(), on_step=True, on_epoch=False)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # here and not at the batch's end, which comes after callbacks have written checkpoints
        if self.average is not None:
            self.average.update_parameters(self.network)

    def on_train_epoch_end(self) -> None:
        self.log("loss", self.mean_loss, sync_dist=True)
        self.log("lr", self.learning_rate)

    @property
    def learning_rate(self) -> float:
        """The largest of the parameter groups'."""
        optimizer = cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False))
        return max(float(group["lr"]) for group in optimizer.param_groups)

    @property
    def mean_loss(self) -> float:
        """Mean loss of the epoch so far, on this process; nan before its first step."""
        return float(self.loss_sum / self.loss_steps)

    def enter_step(self, epoch: int) -> None:
        """Put the binarization step of `epoch`, and the temperature, in force."""
        step = step_at(self.steps, epoch)
        if step is not self.step:
            self.step = step
            step.apply(self.network)
            if self.average is not None:
                step.apply(self.average)
        if self._has_temperature:
            total = self.trainer.estimated_stepping_batches
            set_temperature(self.network, self.recipe.binarization, self.global_step / float(total))

    def _learning_rate_factor(self) -> float:
        config = self.recipe
        total = int(self.trainer.estimated_stepping_batches)
        step = self.global_step
        if not config.binarization.restart_schedule:
            return learning_rate_factor(config.optimizer, step, total)
        assert self.step is not None
        per_epoch = total // config.trainer.epochs
        start, end = self.step.start * per_epoch, self.step.end * per_epoch
        return learning_rate_factor(config.optimizer, step - start, end - start)

    # --- validation ---

    def reestimate(self, batches: Iterable[Tensor]) -> None:
        """Measure the scored network's BatchNorm statistics over uint8 images; see `batchnorm`.

        Leaves the network in eval mode.
        """
        with torch.autocast(self.device.type, enabled=False):
            reestimate_batchnorm(
                self.evaluated,
                batches,
                lambda images: self.preprocessing.normalize(images.to(self.device)),
            )
        self.evaluated.eval()

    def write_model(self, path: Path, training: dict[str, Any]) -> None:
        """Write the scored network as a model file with the figures of the run."""
        raise NotImplementedError
