"""Several processes that share one evaluation, as `torchrun` starts them.

Each scores every size-th picture; what they counted is gathered once, at the end, as whole numbers
or in the data set's order, so that the figures are those of one process to the last bit.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch.distributed import Store

Part = TypeVar("Part")

_PATIENCE = timedelta(days=7)  # a process may have to wait for one with larger pictures
_POLL = 0.1  # seconds
_ARRIVED, _FAILED = "arrived", "failed"  # counters in the store


class Processes:
    """One of the processes of an evaluation.

    Args:
        rank: its number, from 0.
        size: how many there are.
        store: what they tell each other of faults by; needed if there are several.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: "Store | None" = None) -> None:
        self.rank, self.size = rank, size
        self._store = store

    def share(self, length: int) -> range:
        """The places of this process's pictures, of `length`."""
        return range(self.rank, length, self.size)

    def device(self, name: str) -> str:
        """Where this process computes: with "auto" the GPUs are dealt out among the processes."""
        import torch

        gpus = torch.cuda.device_count()
        if name != "auto" or self.size == 1 or gpus == 0:
            return name
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank)) % gpus}"

    def gather(self, part: Part) -> list[Part]:
        """Every process's part, in the order of their ranks; all must call it.

        Raises:
            SystemExit: another process has failed and says so itself.
        """
        if self._store is None:
            return [part]
        from torch.distributed import all_gather_object

        self._store.add(_ARRIVED, 1)
        while self._store.add(_ARRIVED, 0) % self.size:
            self.stop_if_failed()
            time.sleep(_POLL)
        parts: list[Any] = [None] * self.size
        all_gather_object(parts, part)
        return parts

    def stop_if_failed(self) -> None:
        """Raise SystemExit, without a word, if another process has failed."""
        if self._store is not None and self._store.check([_FAILED]):
            raise SystemExit(1)

    def fail(self) -> bool:
        """Tell the others that this process fails; whether it is the first."""
        return self._store is None or self._store.add(_FAILED, 1) == 1


ALONE = Processes()
"""The one process of an ordinary evaluation."""


@contextmanager
def joined() -> Iterator[Processes]:
    """This process among those that torchrun has started; `ALONE` without torchrun.

    If one of them fails inside the block, only the first to do so shows its error.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    import torch.distributed as dist

    store, rank, size = next(iter(dist.rendezvous("env://", timeout=_PATIENCE)))
    # counts travel through the main memory, whatever the networks run on
    dist.init_process_group(
        "gloo", store=dist.PrefixStore("gloo", store), rank=rank, world_size=size, timeout=_PATIENCE
    )
    processes = Processes(rank, size, dist.PrefixStore("binseg", store))
    try:
        yield processes
    except Exception:
        if not processes.fail():
            raise SystemExit(1) from None
        raise
    finally:
        dist.destroy_process_group()
