"""From samples to batches of tensors, with errors that a person can read."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from binseg.data.samples import Sample
from binseg.errors import BinsegError


class Batch(TypedDict):
    """What a loader yields.

    `image`: uint8 (N, 3, H, W) in [0, 255], channels_last memory; `label`: uint8 (N, H, W) train
    ids and 255, or the label's own (N, H', W') when scoring; `name`: N names.
    """

    image: Tensor
    label: Tensor
    name: list[str]


class _Fault(NamedTuple):
    """A BinsegError on its way out of a worker; DataLoader would bury it in a traceback."""

    message: str


class LoaderDataset(Dataset[Any]):
    """A torch data set over any function from key to sample; faults travel as values."""

    def __init__(self, read: Callable[[Any], Sample]) -> None:
        self.read = read

    def __getitem__(self, key: Any) -> Sample | _Fault:
        try:
            return self.read(key)
        except BinsegError as error:
            return _Fault(str(error))


def collate(samples: Sequence[Sample | _Fault]) -> Batch | _Fault:
    """Stack samples of one size; see `Batch`. A fault among them becomes the result."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, _Fault):
            return sample
        good.append(sample)
    first = good[0]
    for other in good[1:]:
        same = other.image.shape == first.image.shape and other.labels.shape == first.labels.shape
        if not same:
            return _Fault(
                f"'{first.name}' and '{other.name}' differ in size ({_size(first)} and "
                f"{_size(other)}) and cannot share a batch; set data.val_batch_size to 1"
            )
    images = torch.from_numpy(np.stack([sample.image for sample in good]))
    labels = torch.from_numpy(np.stack([sample.labels for sample in good]))
    # the transposed view of an NHWC block is NCHW in channels_last memory
    return {
        "image": images.permute(0, 3, 1, 2),
        "label": labels,
        "name": [sample.name for sample in good],
    }


def _size(sample: Sample) -> str:
    return f"{sample.labels.shape[1]} × {sample.labels.shape[0]}"


class _Checked(Iterator[Batch]):
    """A loader's iterator that raises the faults among its values."""

    def __init__(self, loader: "Loader", batches: Iterator[Any]) -> None:
        self._loader, self._batches = loader, batches

    def __next__(self) -> Batch:
        try:
            batch = next(self._batches)
            if isinstance(batch, _Fault):
                raise BinsegError(batch.message)
            return batch
        except StopIteration:
            raise
        except BaseException:
            self._loader.stop_workers(self._batches)
            raise


class Loader(DataLoader[Any]):
    """torch's DataLoader, except that a BinsegError in a worker comes out as it went in.

    Args:
        read: key → sample; runs in the workers.
        batches: keys of each batch.
        workers: number of processes; 0: load in this one.
        persistent: keep the workers from epoch to epoch.
    """

    def __init__(
        self,
        read: Callable[[Any], Sample],
        batches: Sampler[list[Any]],
        *,
        workers: int = 0,
        persistent: bool = False,
    ) -> None:
        context: Literal["fork"] | None = None
        if workers and "fork" in torch.multiprocessing.get_all_start_methods():
            context = "fork"  # what the cache's shared memory needs; Python 3.14 has it no more
        super().__init__(
            LoaderDataset(read),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=_quiet_worker,
            multiprocessing_context=context,
            persistent_workers=persistent and workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def __iter__(self) -> Any:
        return _Checked(self, super().__iter__())

    def stop_workers(self, batches: Iterator[Any]) -> None:
        """End the processes behind an iterator of this loader at once.

        Left to the garbage collector, an iterator that is tied up with the traceback of its own
        error waits five seconds for each of them.
        """
        shut_down = getattr(batches, "_shutdown_workers", None)
        if shut_down is not None:
            shut_down()
        self._iterator = None


class ResumableLoader(Loader):
    """A `Loader` whose sampler knows where to go on; Lightning asks for these two methods.

    They hold nothing: the position comes from the trainer's own count of finished batches, which
    is in every checkpoint. A loader's own count would include batches that workers have read
    ahead and no step has used.
    """

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(0)  # its thread pool does not survive a fork: deadlocks
