"""Processes that segment images side by side.

A worker takes an image from its file to its outputs. Where libbinseg runs the network each worker
has one of its own, on one thread: no processor waits for another. Else the network, which may hold
a GPU, stays in this process, and the workers, which decode and encode beside it, send it pixels.

A worker that is killed, or that a decoder crashes in, takes one image along: that is given to
another worker, and if it ends, too, left out and named.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from binseg.data.labels import LabelTable
from binseg.errors import BinsegError
from binseg.prediction.segmenting import ImageSegmenter, Job, Outcome
from binseg.predictor import Predictor, Segmentation

_AHEAD = 8  # images that each worker may be ahead of the slowest one
_TRIES = 2
_LOST_IN_A_ROW = 4  # that is no image's fault any more
_PATIENCE = 10.0  # seconds for a worker to end by itself


def segment_all(
    job: Job, predictor: Predictor, paths: Iterator[str], workers: int
) -> Generator[Outcome, None, None]:
    """Segment images; what became of them, in their order.

    Args:
        job: what to make.
        predictor: the job's, loaded in this process.
        paths: of the images; taken as they are needed.
        workers: processes beside this one; with 0 this one does it all.

    Raises:
        BinsegError: one worker after the other is killed.
    """
    if workers < 1:
        yield from map(ImageSegmenter(job, predictor), paths)
        return
    has_own = predictor.packed is not None
    pool = _Pool(replace(job, threads=1), workers, None if has_own else predictor)
    try:
        yield from pool.outcomes(paths)
    finally:
        pool.close()


class _Worker:
    """A worker process as this one sees it."""

    def __init__(self, job: Job, labels: LabelTable | None) -> None:
        # not forked from here: threads and GPUs of this process would not come along
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(theirs, job, labels), daemon=True
        )
        self.process.start()
        theirs.close()
        self.place = -1  # of its image
        self.path = ""

    def give(self, place: int, path: str) -> None:
        self.place, self.path = place, path
        with contextlib.suppress(OSError):  # that it is gone is noticed where its answer is read
            self.connection.send(path)


class _Pool:
    """Args: predictor: that runs in this process for all workers; None: each has its own."""

    def __init__(self, job: Job, size: int, predictor: Predictor | None) -> None:
        self._job = job
        self._predictor = predictor
        self._lost = 0
        self._workers = [self._started() for _ in range(size)]

    def _started(self) -> _Worker:
        return _Worker(self._job, None if self._predictor is None else self._predictor.labels)

    def outcomes(self, paths: Iterator[str]) -> Iterator[Outcome]:
        """What became of the images, in their order."""
        todo = enumerate(paths)
        again: list[tuple[int, str]] = []
        tries: dict[int, int] = {}
        done: dict[int, Outcome] = {}
        idle, busy = list(self._workers), dict[Any, _Worker]()
        following, is_all = 0, False
        while True:
            while idle and not (is_all and not again):
                if again:
                    place, path = again.pop(0)
                elif len(done) + len(busy) > _AHEAD * len(self._workers):
                    break
                else:
                    place, path = next(todo, (-1, ""))
                    if place < 0:
                        is_all = True
                        break
                worker = idle.pop()
                worker.give(place, path)
                busy[worker.connection] = worker
            if not busy:
                return
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker = busy[connection]
                try:
                    outcome = self._answer(connection)
                except (EOFError, OSError):
                    outcome = self._outcome_of_lost(worker, tries)
                    if outcome is None:
                        again.append((worker.place, worker.path))
                    idle.append(self._replaced(worker))
                    del busy[connection]
                else:
                    if outcome is None:
                        continue  # it has asked for a class map
                    self._lost = 0
                    idle.append(busy.pop(connection))
                if outcome is not None:
                    done[worker.place] = outcome
            while following in done:
                yield done.pop(following)
                following += 1

    def _answer(self, connection: Connection) -> Outcome | None:
        """An image's outcome; None after a worker's image was segmented here."""
        message = connection.recv()
        if isinstance(message, Outcome):
            return message
        assert self._predictor is not None
        image = np.frombuffer(connection.recv_bytes(), np.uint8).reshape(message)
        try:
            found = self._predictor(image)
        except (BinsegError, MemoryError) as error:
            connection.send(error)
        else:
            connection.send((found.class_map.shape, found.seconds))
            connection.send_bytes(np.ascontiguousarray(found.class_map).reshape(-1).data)
        return None

    def _outcome_of_lost(self, worker: _Worker, tries: dict[int, int]) -> Outcome | None:
        """Of the image that a lost worker had; None if another one should try."""
        worker.process.join(_PATIENCE)
        self._lost += 1
        if self._lost >= _LOST_IN_A_ROW:
            raise BinsegError(
                "processes that segment images are killed one after the other, most likely for "
                "want of memory; lower --workers, and add --continue"
            )
        tries[worker.place] = tries.get(worker.place, 0) + 1
        if tries[worker.place] < _TRIES:
            return None
        return Outcome(
            worker.path,
            fault=f"{worker.path}: the process that read it was killed, {_TRIES} times (exit code "
            f"{worker.process.exitcode}): too large for the memory, or damaged",
        )

    def _replaced(self, worker: _Worker) -> _Worker:
        worker.connection.close()
        self._workers.remove(worker)
        self._workers.append(self._started())
        return self._workers[-1]

    def close(self) -> None:
        """Let the workers finish the images at hand, and end them."""
        for worker in self._workers:
            worker.connection.close()
        until = time.monotonic() + _PATIENCE
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
                worker.process.join()


# --- in a worker ------------------------------------------------------------------------------


def _work(connection: Connection, job: Job, labels: LabelTable | None) -> None:
    """Args: labels: of the network in the first process; None: this one loads its own."""
    # Ctrl-C reaches every process of the terminal; the first one ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # temporary files are removed
    os.environ["OMP_NUM_THREADS"] = "1"
    segment: Callable[[np.ndarray], Segmentation]
    segment = job.predictor() if labels is None else _Remote(connection, labels)
    one = ImageSegmenter(job, segment)
    # without the first process there is nobody to work for
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            connection.send(one(connection.recv()))


class _Remote:
    """The network in the first process."""

    def __init__(self, connection: Connection, labels: LabelTable) -> None:
        self._connection = connection
        self._labels = labels

    def __call__(self, image: np.ndarray) -> Segmentation:
        self._connection.send(image.shape)
        self._connection.send_bytes(np.ascontiguousarray(image).reshape(-1).data)
        answer: Any = self._connection.recv()
        if isinstance(answer, BaseException):
            raise answer
        shape, seconds = answer
        class_map = np.frombuffer(self._connection.recv_bytes(), np.uint8).reshape(shape)
        return Segmentation(image, class_map, self._labels, seconds)
