"""The bodies of requests: bounded in size and time, and uploads in what they take together."""

import asyncio
import time
from types import TracebackType
from typing import Self

import anyio.to_thread
from starlette.formparsers import MultiPartException

from binseg.demo.asgi import Message, Receive, RefusedError, Scope
from binseg.demo.uploads import LARGEST_FILE, UploadFolder

LARGEST_BODY = 64 * 1024
"""Bytes of a request that is no upload."""

MOST_AT_ONCE = 64
"""Uploads."""

_BODY_SECONDS = 10.0
_IDLE_SECONDS = 15.0
_FIRST_SECONDS = 30.0
_LEAST_RATE = 4096
"""Bytes a second, on the average after the first seconds."""

_BLOCK = 4 * 2**20
"""Bytes of an upload for which room is asked at once."""

_ENVELOPE = 64 * 1024
"""Bytes of a form around its file."""


async def read_all(receive: Receive) -> bytes:
    """The whole body of a request that is no upload.

    Raises:
        RefusedError: it is too large, or was broken off.
        TimeoutError: it does not come.
    """
    body = bytearray()
    async with asyncio.timeout(_BODY_SECONDS):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise RefusedError(400, "the request was broken off")
            body += message.get("body", b"")
            if len(body) > LARGEST_BODY:
                raise RefusedError(413, f"send at most {LARGEST_BODY} bytes; files are uploaded")
            if not message.get("more_body", False):
                return bytes(body)


class Upload:
    """An upload on its way into a folder.

    Args:
        folder: for which room is asked as the file comes.
        scope: of the request.
        receive: of the request.

    Attributes:
        refusal: why it was ended before all of it had come; None if it was not.
    """

    at_once = 0

    def __init__(self, folder: UploadFolder, scope: Scope, receive: Receive) -> None:
        self.refusal: RefusedError | None = None
        self._folder = folder
        self._receive = receive
        self._declared = _length(scope)
        self._began = time.monotonic()
        self._received = 0
        self._admitted = 0
        self._whole = False

    async def __aenter__(self) -> Self:
        if self._declared is not None and self._declared > LARGEST_FILE + _ENVELOPE:
            raise _too_large()
        if Upload.at_once >= MOST_AT_ONCE:
            raise RefusedError(503, "too many uploads at once; try again in a minute")
        Upload.at_once += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        Upload.at_once -= 1
        self._folder.arrived(self._admitted)
        if self.refusal is not None:
            raise self.refusal

    async def receive(self) -> Message:
        """The next part of the request.

        Raises:
            MultiPartException: it was refused or broken off; gradio deletes what had come.
        """
        try:
            return await self._next()
        except RefusedError as refusal:
            self.refusal = refusal
            raise MultiPartException("refused") from refusal

    async def _next(self) -> Message:
        if self._whole:
            return await self._receive()  # that the client has gone
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow() from None
        if message["type"] != "http.request":
            raise RefusedError(400, "the upload was broken off")
        self._received += len(message.get("body", b""))
        if self._received > LARGEST_FILE + _ENVELOPE:
            raise _too_large()
        seconds = time.monotonic() - self._began
        if seconds > _FIRST_SECONDS and self._received < _LEAST_RATE * seconds:
            raise _too_slow()
        while self._received > self._admitted:
            block = min(_BLOCK, (self._declared or LARGEST_FILE) + _ENVELOPE - self._admitted)
            block = max(block, self._received - self._admitted)
            if not await anyio.to_thread.run_sync(self._folder.admit, block):
                raise RefusedError(503, "there is no room for uploads now; try again in a minute")
            self._admitted += block
        self._whole = not message.get("more_body", False)
        return message


def _length(scope: Scope) -> int | None:
    text = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(text) if text.isdigit() and len(text) < 16 else None


def _too_large() -> RefusedError:
    return RefusedError(413, f"a file may have at most {LARGEST_FILE // 2**20} MiB")


def _too_slow() -> RefusedError:
    return RefusedError(408, "the upload came too slowly; try again")
