"""The images of a data set in order, read ahead while a network works."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Read = TypeVar("Read")


def read_ahead(
    read: Callable[[int], Read], places: Sequence[int], *, progress: bool = False
) -> Iterator[Read]:
    """`read(place)` for each place, a few of them at work in threads before they are wanted.

    Args:
        read: reads what lies at a place.
        places: in the order wanted.
        progress: show a bar with the time left on stderr, if that is a terminal.
    """
    if not (progress and sys.stderr.isatty()):
        yield from _ahead(read, places)
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    shown = track(
        _ahead(read, places), "scoring", total=len(places), console=console, transient=True
    )
    yield from shown


def _ahead(read: Callable[[int], Read], places: Sequence[int], ahead: int = 4) -> Iterator[Read]:
    pending: deque[Future[Read]] = deque()
    with ThreadPoolExecutor(max_workers=2) as readers:
        try:
            for place in places:
                pending.append(readers.submit(read, place))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
