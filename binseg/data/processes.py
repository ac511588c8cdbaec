"""Work shared out to processes, with results in order."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from binseg.errors import BinsegError

Result = TypeVar("Result")

_CHUNK = 8  # items that a process takes at once: waking it for each would cost as much as one
_AHEAD = 4  # chunks that each process may be ahead of the consumer


def in_processes(function: Callable[[int], Result], count: int, workers: int) -> Iterator[Result]:
    """function(0), function(1), … function(count − 1), in this order.

    Processes and not threads: numpy holds the interpreter's lock between the decoders' calls, and
    a decoder that crashes on a damaged file takes only its own process along.

    Args:
        function: sent to each process once.
        count: number of results.
        workers: number of processes; below 2 the work is done in this one.

    Raises:
        BinsegError: a process was killed from outside or crashed; also what `function` raises.
    """
    if min(workers, count) < 2:
        yield from map(function, range(count))
        return
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(workers, count),
        # a forked process need not import torch again
        multiprocessing.get_context("fork" if can_fork else None),
        initializer=_begin,
        initargs=(function,),
    )
    finished = False
    try:
        waiting: deque[Future[list[Result]]] = deque()
        for start in range(0, count, _CHUNK):
            waiting.append(pool.submit(_call, range(start, min(start + _CHUNK, count))))
            if len(waiting) > _AHEAD * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
        finished = True
    except BrokenProcessPool as error:
        raise BinsegError(
            "a process that read images was killed, most likely for want of memory; run with "
            "--workers 1, which names the image"
        ) from error
    finally:
        if not finished:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
        pool.shutdown(cancel_futures=True)


_function: Callable[[int], Any]


def _begin(function: Callable[[int], Any]) -> None:
    global _function
    _function = function
    # Ctrl-C reaches every process of the terminal; the first one ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _call(chunk: range) -> list[Any]:
    return [_function(index) for index in chunk]
