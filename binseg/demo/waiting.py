"""Who waits for an answer: requests that nobody waits for lose their place in gradio's queue.

A client asks in one request, and is told how it goes in the stream of a second one. Gradio runs
what was asked even if that second one never comes, and keeps its answer.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradio.queueing import Queue

GRACE = 5.0
"""Seconds for which a request keeps its place although its stream is not open."""

ANSWER_KEPT = 60.0
"""Seconds for which an answer waits for its stream."""

_STEPS = 10


class Waiting:
    """The clients that wait on one queue; its methods run in the server's event loop.

    Args:
        queue: gradio's.
        leave: told the session whose client is gone.
        grace: see `GRACE`.
        answer_kept: see `ANSWER_KEPT`.
    """

    def __init__(
        self,
        queue: Queue,
        leave: Callable[[str], None],
        *,
        grace: float = GRACE,
        answer_kept: float = ANSWER_KEPT,
    ) -> None:
        self._queue = queue
        self._leave = leave
        self._grace = grace
        self._answer_kept = answer_kept
        self._streams: Counter[str] = Counter()
        self._unseen: dict[str, asyncio.Task[None]] = {}

    def asked(self, event: str, session: str | None) -> None:
        """A request has got its place, and the name of its event.

        Args:
            event: gradio's name of it.
            session: its client's, if it gave one.
        """
        session = session or event
        if not self._streams[session]:
            self._unseen[event] = asyncio.create_task(self._forget_unless_seen(event, session))

    def session_of(self, event: str) -> str:
        """The session of an event whose stream is asked for by the event's name."""
        known = self._queue.event_ids_to_events.get(event)
        if known is not None:
            return known.session_hash
        waiting = self._queue.pending_event_ids_session.items()
        return next((session for session, events in waiting if event in events), event)

    @contextmanager
    def watching(self, session: str) -> Iterator[None]:
        """A stream of the session is open inside the `with`."""
        self._streams[session] += 1
        for event in self._events(session):
            if task := self._unseen.pop(event, None):
                task.cancel()
        try:
            yield
        finally:
            self._streams[session] -= 1
            if not self._streams[session]:
                del self._streams[session]
                # the client may be gone; or have asked anew while it took its last answer
                for event in self._events(session):
                    self.asked(event, session)

    def _events(self, session: str) -> set[str]:
        """Names of what the session has asked for and not been answered."""
        return set(self._queue.pending_event_ids_session.get(session, ()))

    async def _forget_unless_seen(self, event: str, session: str) -> None:
        await _seconds(self._grace)
        if not self._is_queued(event):
            # what takes long is ended; what it gave waits, as does what is ready
            self._leave(session)
            await _seconds(max(0.0, self._answer_kept - self._grace))
        self._unseen.pop(event, None)
        await self._forget(session, {event})

    def _is_queued(self, event: str) -> bool:
        queues = self._queue.event_queue_per_concurrency_id.values()
        return any(each._id == event for queue in queues for each in queue.queue)

    async def _forget(self, session: str, events: set[str]) -> None:
        """As gradio does when a client closes its stream, and what it keeps for the client, too."""
        self._leave(session)
        for event in events:
            await self._queue.clean_events(event_id=event)
        if session in self._queue.pending_event_ids_session:
            self._queue.pending_event_ids_session[session] -= events
        if not self._events(session):
            self._queue.pending_event_ids_session.pop(session, None)
            self._queue.pending_messages_per_session.pop(session, None)


async def _seconds(seconds: float) -> None:
    """In steps, so that time in which the server itself hung counts as one step at most: what
    clients sent meanwhile comes first."""
    for _ in range(_STEPS):
        await asyncio.sleep(seconds / _STEPS)
