"""The processes of one run, as `torchrun` starts them: who does what, and what they agree upon.

Process 0 decides, and the others do as it says. Work that can be shared out goes by every size-th
item; what the processes counted is gathered once, at the end, as integers or in the data's order,
so that the figures are those of one process to the last bit.
"""

import contextlib
import hashlib
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from binseg.distributed.lifeline import Client, Lifeline, Server
from binseg.errors import BinsegError, BinsegWarning

if TYPE_CHECKING:
    from torch.distributed import Store

Part = TypeVar("Part")

STORE = "BINSEG_STORE"
"""Environment variable by which processes that are started from this one find its store."""

_START = timedelta(minutes=10)  # for all processes to be there
_PATIENCE = timedelta(days=7)  # a process may have to wait for one with larger images
_POLL = 0.1  # seconds
_VERDICT = "verdict"  # key in the store


class Processes:
    """One of the processes of a run.

    Args:
        rank: its number, from 0.
        size: how many there are.
        store: what they tell each other by; needed if there are several.
        lifeline: notices it if one of them ends.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        store: "Store | None" = None,
        lifeline: Lifeline | None = None,
    ) -> None:
        self.rank, self.size = rank, size
        self._store = store
        self._lifeline = lifeline
        self._questions: dict[str, int] = {}
        self._grouped = False

    @property
    def is_first(self) -> bool:
        """Whether this is process 0, which writes what they make together."""
        return self.rank == 0

    def share(self, length: int) -> range:
        """The places of this process's items, of `length`."""
        return range(self.rank, length, self.size)

    def device(self, name: str) -> str:
        """Where this process computes: with "auto" the GPUs are dealt out among the processes."""
        if name != "auto" or self.size == 1:
            return name
        import torch

        gpus = torch.cuda.device_count()
        if gpus == 0:
            return name
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank)) % gpus}"

    def advise(self, advice: Callable[[], str]) -> None:
        """What to do if a process is lost, in words that follow a semicolon."""
        if self._lifeline is not None:
            self._lifeline.advice = advice

    # --- agreeing -----------------------------------------------------------------------------

    def decided(self, question: str, decide: Callable[[], Part]) -> Part:
        """What process 0 decides; every process must ask the same questions in the same order.

        Args:
            question: any text that names it.
            decide: called on process 0 alone; gives plain values (JSON). If it raises, all
                processes end.
        """
        if self._store is None:
            return decide()
        number = self._questions[question] = self._questions.get(question, 0) + 1
        key = f"decided/{question}/{number}"
        if self.is_first:
            decision = decide()
            self._store.set(key, json.dumps(decision))
            return decision
        return self._answer(key)

    def agree(self, what: str, mine: Mapping[str, Any]) -> None:
        """Refuse to go on with another value than process 0 has.

        Args:
            what: names the values in a message, as in "settings".
            mine: this process's values (JSON), by name.

        Raises:
            BinsegError: they differ; the message names those that do.
        """
        plain = json.loads(json.dumps(mine))
        theirs = self.decided(what, lambda: plain)
        different = sorted(
            name for name in plain.keys() | theirs.keys() if plain.get(name) != theirs.get(name)
        )
        if different:
            raise BinsegError(
                f"process {self.rank} ({socket.gethostname()}) has other {what} than process 0: "
                f"{', '.join(different)}; all processes need the same"
            )

    def _answer(self, key: str) -> Any:
        """The value that process 0 puts under a key of the store, once it is there.

        Raises:
            BinsegError: process 0 has failed or is gone. The lifeline mostly ends this process
                before.
        """
        assert self._store is not None
        try:
            while not self._store.check([key]):
                if verdict := self._verdict():
                    raise verdict
                time.sleep(_POLL)
            return json.loads(self._store.get(key))
        except RuntimeError as error:  # the store is on process 0's machine
            raise BinsegError(f"process 0 of {self.size} is gone; start again") from error

    def _verdict(self) -> BinsegError | None:
        """What all processes end with, if process 0 knows it by now."""
        if self._store is None or not self._store.check([_VERDICT]):
            return None
        line, status = json.loads(self._store.get(_VERDICT))
        return _with_status(line, status)

    def gather(self, part: Part) -> list[Part]:
        """Every process's part, in the order of their ranks; all must call it."""
        if self._store is None:
            return [part]
        import torch.distributed as dist

        if not self._grouped:
            # counts travel through the main memory, whatever the networks run on
            dist.init_process_group(
                "gloo",
                store=dist.PrefixStore("gloo", self._store),
                rank=self.rank,
                world_size=self.size,
                timeout=_PATIENCE,
            )
            self._grouped = True
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, part)
        return parts

    # --- ending -------------------------------------------------------------------------------

    def _failed(self, error: BaseException) -> BaseException:
        """The error that this process ends with: its own, or what another one told all before."""
        if self._lifeline is None:
            return error
        if isinstance(error, RuntimeError) or isinstance(error.__cause__, RuntimeError):
            self._lifeline.wait()  # what a collective raises if another process is lost
        line, status = str(error), 1
        if isinstance(error, BinsegError):
            status = error.status
        elif isinstance(error, KeyboardInterrupt):
            line, status = "interrupted", 130
        elif isinstance(error, SystemExit):
            line, status = f"process {self.rank} of {self.size} was told to end", 1
        else:
            reason = (line.splitlines() or [""])[0][:200]
            line = f"process {self.rank} of {self.size} failed ({type(error).__name__}: {reason})"
        if self._store is not None and self.is_first:
            with contextlib.suppress(RuntimeError):  # for those that have no lifeline yet
                self._store.set(_VERDICT, json.dumps([line, status]))
        verdict = self._lifeline.fail(line, status)
        if verdict.line == line or not isinstance(error, BinsegError):
            return error
        return _with_status(*verdict)

    def _close(self) -> None:
        if self._lifeline is not None:
            self._lifeline.close()
        if self._grouped:
            import torch.distributed as dist

            dist.destroy_process_group()


ALONE = Processes()
"""The one process of an ordinary run."""

_current: Processes | None = None


def digest(names: Iterable[str]) -> str:
    """A short text that is the same for the same names in the same order."""
    found = hashlib.sha256()
    for name in names:
        found.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return found.hexdigest()[:32]


@contextmanager
def joined(to_start: int = 1) -> Iterator[Processes]:
    """This process among those that torchrun has started; `ALONE` without torchrun.

    If one of them fails inside the block, or is killed, all of them end within seconds with the
    same line. A block within a block is the same processes.

    Args:
        to_start: processes that this one will start by itself, with itself, if torchrun has not.

    Raises:
        BinsegError: the processes do not find each other.
    """
    global _current
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if _current is not None or max(size, to_start) < 2:
        yield _current or ALONE
        return
    processes, variables = _found(size) if size > 1 else _leading(to_start)
    _current = processes
    os.environ.update(variables)
    try:
        yield processes
    except BaseException as error:
        verdict = processes._failed(error)
        if verdict is error:
            raise
        raise verdict from error
    finally:
        _current = None
        for name in variables:
            os.environ.pop(name, None)
        processes._close()


def _found(size: int) -> tuple[Processes, dict[str, str]]:
    """This process among those that the environment tells of."""
    import torch.distributed as dist

    try:
        if address := os.environ.get(STORE):
            host, _, port = address.rpartition(":")
            rank = int(os.environ["LOCAL_RANK"])
            store: Any = dist.TCPStore(host, int(port), is_master=False, timeout=_START)
        else:
            host = os.environ.get("MASTER_ADDR", "localhost")
            store, rank, size = next(iter(dist.rendezvous("env://", timeout=_START)))
    except (RuntimeError, ValueError, KeyError) as error:  # torch's own are RuntimeErrors
        reason = " ".join(str(error).split())[:200]
        raise BinsegError(
            f"the {size} processes do not find each other ({reason}); start them by torchrun, and "
            "look at MASTER_ADDR and MASTER_PORT"
        ) from error
    store.set_timeout(_PATIENCE)
    processes = Processes(rank, size, dist.PrefixStore("binseg", store))
    if rank == 0:
        server = Server(size, host)
        processes._lifeline = server
        processes.decided("lifeline", lambda: server.address)
    else:
        processes._lifeline = _connected(processes, processes.decided("lifeline", str))
    return processes, {}


def _connected(processes: Processes, address: str) -> Lifeline | None:
    """This process's lifeline; None, and a warning, if no way leads to process 0.

    Raises:
        BinsegError: process 0 has failed or is gone.
    """
    try:
        return Client(processes.rank, processes.size, address)
    except OSError as error:
        if verdict := processes._verdict():
            raise verdict from error
        if isinstance(error, ConnectionRefusedError):
            raise BinsegError(f"process 0 of {processes.size} is gone; start again") from error
        warnings.warn(
            BinsegWarning(
                f"process {processes.rank} cannot reach process 0 ({error}); if one is lost, the "
                "others notice it minutes later"
            ),
            stacklevel=2,
        )
        return None


def _with_status(line: str, status: int) -> BinsegError:
    error = BinsegError(line)
    error.status = status
    return error


def _leading(size: int) -> tuple[Processes, dict[str, str]]:
    """This process as the first of several on this machine that it will start by itself."""
    import torch.distributed as dist

    host = "127.0.0.1"
    store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=_PATIENCE)
    server = Server(size, host)
    processes = Processes(0, size, dist.PrefixStore("binseg", store), server)
    processes.decided("lifeline", lambda: server.address)
    return processes, {STORE: f"{host}:{store.port}"}
