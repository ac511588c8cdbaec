"""Where a run stands in its training data, so that it can go on in the middle of an epoch."""

from typing import Any, Protocol

import lightning
from lightning.pytorch.utilities import rank_zero_warn

from binseg.data.batch_sampler import TrainBatches


class _Config(Protocol):
    batch_size: int
    seed: int


def order_seed(data_seed: int, run_seed: int) -> int:
    """One seed, below 2**63, of the order and the augmentation; the data's own for run seed 0."""
    return (data_seed + run_seed * 0x9E37_79B9_7F4A_7C15) % 2**63


class ResumableData(lightning.LightningDataModule):
    """A data module whose training batches follow from the trainer's count of finished batches.

    Args:
        config: the size of a batch and the data seed.
        run_seed: of the run; runs of other seeds see the images in other orders and changes.

    Attributes:
        seed: of the order and the augmentation, from both.
    """

    # with more processes than images to score, some have none
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(self, config: _Config, run_seed: int = 0) -> None:
        super().__init__()
        self._batch_size = config.batch_size
        self.seed = order_seed(config.seed, run_seed)
        # (batches finished in all, epoch) where the present epoch length came into force
        self._anchor = (0, 0)
        self._saved_length: int | None = None

    def _train_length(self) -> int:
        """Number of training samples."""
        raise NotImplementedError

    def _train_batches(self) -> TrainBatches:
        """Keys of this process's training batches, from where the run stands."""
        self._adapt_to_new_length()
        rank, world_size = self._shard
        return TrainBatches(
            self._train_length(),
            self._batch_size,
            self.seed,
            rank=rank,
            world_size=world_size,
            position=self.position,
        )

    @property
    def _shard(self) -> tuple[int, int]:
        """(rank, world size)."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _epoch_length(self) -> int:
        """Batches that the trainer takes from each epoch, on this process."""
        whole = self._train_length() // (self._batch_size * self._shard[1])
        limit = 1.0 if self.trainer is None else self.trainer.limit_train_batches
        return max(1, min(whole, limit) if isinstance(limit, int) else int(whole * limit))

    def _finished_batches(self) -> int:
        """Training batches finished since the run began; a checkpoint restores the count."""
        if self.trainer is None:
            return 0
        # of ready, started, processed and completed, this one counts exactly the optimised batches,
        # whichever hook writes the checkpoint
        return vars(self.trainer.fit_loop.epoch_loop.batch_progress.total)["processed"]

    def position(self) -> tuple[int, int]:
        """(epoch, batch in it) of the next training batch, from what the trainer has finished."""
        batches, epoch = self._anchor
        if self.trainer is None:  # a loop of somebody's own: each pass over the loader is an epoch
            self._anchor = batches, epoch + 1
            return epoch, 0
        epochs, batch = divmod(self._finished_batches() - batches, self._epoch_length())
        return epoch + epochs, batch

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know: the epoch's length, which the counts are measured in."""
        return {"anchor": list(self._anchor), "epoch_length": self._epoch_length()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        batches, epoch = state_dict["anchor"]
        self._anchor = int(batches), int(epoch)
        self._saved_length = int(state_dict["epoch_length"])

    def _adapt_to_new_length(self) -> None:
        """Keep epoch and batch meaningful if batch size, processes or data changed on resume."""
        saved, self._saved_length = self._saved_length, None
        now = self._epoch_length()
        if saved is None or saved == now:
            return
        batches, epoch = self._anchor
        epochs, batch = divmod(self._finished_batches() - batches, saved)
        self._anchor = self._finished_batches() - batch, epoch + epochs
        rank_zero_warn(
            f"an epoch now has {now} batches, {saved} when the checkpoint was written: the resumed "
            "run is sound but not equal to an uninterrupted one"
        )
