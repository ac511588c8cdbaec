"""Which samples make up which batch, in which process; nothing here reads an image."""

from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

from binseg.errors import BinsegError

Key = tuple[int, int]
"""(epoch, index): together with the data seed it fixes a training sample to the last bit."""


class TrainBatches(Sampler[list[Key]]):
    """Shuffled training batches for one process, resumable at any batch.

    The order of epoch e is a permutation drawn from (seed, e). Global batch b takes the next
    `batch_size` · `world_size` samples of it, and process r the r-th `batch_size` of those. What
    is left at the end is dropped; every process has the same number of batches.

    Args:
        samples: size of the data set.
        batch_size: samples a batch in each process.
        seed: the data seed.
        rank: this process, 0 … world_size−1.
        world_size: number of processes.
        position: called when an epoch begins to be read; gives (epoch, first batch). The first
            batch is above 0 only when a run is resumed in the middle of an epoch.

    Raises:
        BinsegError: the data set is smaller than one batch of all processes.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], tuple[int, int]],
    ) -> None:
        if samples < batch_size * world_size:
            processes = f" in each of {world_size} processes" if world_size > 1 else ""
            raise BinsegError(
                f"the training split has {samples} images, fewer than one batch of "
                f"{batch_size}{processes}; lower data.batch_size"
            )
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.rank, self.world_size, self.position = rank, world_size, position

    def __len__(self) -> int:
        """Batches in a whole epoch, also while one is resumed in its middle."""
        return self.samples // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, first = self.position()
        order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
        for batch in range(first, len(self)):
            start = (batch * self.world_size + self.rank) * self.batch_size
            yield [(epoch, int(index)) for index in order[start : start + self.batch_size]]


class OrderedBatches(Sampler[list[int]]):
    """Samples rank, rank + world_size, … in order: each sample in exactly one process, once.

    Nothing is repeated to make the processes' shares equal, so a score summed over processes is
    the score of one process. A share may be empty.
    """

    def __init__(self, samples: int, batch_size: int, rank: int, world_size: int) -> None:
        self.indices = range(rank, samples, world_size)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield list(self.indices[start : start + self.batch_size])


class CalibrationBatches(Sampler[list[int]]):
    """Given samples in mixed batches of nearly equal size; process r takes batches r, r + W, ….

    Mixed, since images that follow each other in a data set are alike, and a batch of alike
    images underestimates the variance that BatchNorm is to learn.
    """

    def __init__(self, indices: list[int], batch_size: int, rank: int, world_size: int) -> None:
        mixed = np.random.default_rng(len(indices)).permutation(np.asarray(indices, np.int64))
        parts = np.array_split(mixed, -(-len(indices) // batch_size))
        self.batches = [part.tolist() for part in parts[rank::world_size]]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
