"""Types of ASGI, and what is sent in answer to one request."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_STALLED = 60.0
"""Seconds after which somebody who does not take an answer is left alone."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class RefusedError(Exception):
    """A request that is answered with a status and words instead of what it asks for.

    Attributes:
        status: of HTTP.
        words: one line; or, as the value of "detail", what gradio's clients take for faults of
            single parameters.
    """

    def __init__(self, status: int, words: str | list[dict[str, Any]]) -> None:
        super().__init__(status, words)
        self.status = status
        self.words = words


class Answer:
    """What is sent for one request; called as ASGI's `send`.

    Attributes:
        status: of HTTP, once something was sent.
        failed: whether gradio would have answered that it cannot, which it does without words;
            that is not sent.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.failed = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 500:
            self.failed = True
        if self.failed:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._put(message)

    async def _put(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        async with asyncio.timeout(_STALLED):
            await self._send(message)

    async def refuse(self, refusal: RefusedError) -> None:
        """Answer with words, if nothing was sent yet."""
        if self.status is not None:
            return
        self.status = refusal.status
        body = json.dumps({"detail": refusal.words}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),  # what else was sent is not read
        ]
        with contextlib.suppress(OSError, TimeoutError):  # nobody there
            await self._put(
                {"type": "http.response.start", "status": refusal.status, "headers": headers}
            )
            await self._put({"type": "http.response.body", "body": body})


def json_request(scope: Scope, body: bytes, receive: Receive) -> tuple[Scope, Receive]:
    """A request whose body was read and is given anew, as JSON; its answer is not compressed."""
    ours = (b"content-type", b"content-length", b"content-encoding", b"accept-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in ours]
    headers += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return {**scope, "headers": headers}, again
