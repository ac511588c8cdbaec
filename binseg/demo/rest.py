"""One plain request: `curl -F image=@street.jpg http://127.0.0.1:7860/segment` → PNG or JSON.

It comes through the same door as the page's requests (`Guard`), and has their limits.
"""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import anyio.to_thread
from PIL import Image
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from binseg.data.imageio import mask_image
from binseg.demo.addresses import query_of
from binseg.demo.asgi import Answer, Receive, RefusedError, Scope
from binseg.demo.backends import backends
from binseg.demo.images import open_upload
from binseg.demo.inference import class_shares
from binseg.demo.models import PRECISIONS, ModelList, Precision
from binseg.demo.receiving import Upload
from binseg.demo.uploads import upload_folder, work_folder
from binseg.errors import BinsegError
from binseg.visualize import colorize

MOST_WAITING = 16
"""Requests that wait for their turn; more are told that the queue is full."""

FORMATS = ("png", "color", "json", "gray")
_EXAMPLE = "curl -F image=@street.jpg 'http://127.0.0.1:7860/segment?format=json'"


class Rest:
    """Answers requests to /segment, one at a time.

    Query parameters: `model` and `backend`, of the page's lists; `precision`: binary, or full for
    the model's full-precision twin; and `format`: png, a palette PNG whose pixels are class ids;
    color, an RGB PNG; json, the classes with their shares; gray, a grey PNG of class ids. The first
    of each is the default. Images are answered as the page shows them, their long side at most
    1280 pixels; the header Server-Timing has the milliseconds. Faults are {"detail": "…"}.

    Args:
        models: all that may be named.
    """

    def __init__(self, models: ModelList) -> None:
        self._models = models
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def segment(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer one request.

        Raises:
            RefusedError: what is asked for is not there, or the image does not go through.
        """
        wanted = self._wanted(query_of(scope))
        if self._waiting >= MOST_WAITING:
            raise RefusedError(503, "the queue is full; try again in a minute")
        self._waiting += 1
        try:
            with TemporaryDirectory(dir=work_folder()) as folder:
                path = Path(folder) / "image"
                async with Upload(upload_folder(), scope, receive) as upload:
                    await _store(scope, upload, path)
                    async with self._own_turn(receive) as is_there:
                        if not is_there:
                            return  # nobody waits for the answer
                        made = await anyio.to_thread.run_sync(partial(self._made, path), *wanted)
        finally:
            self._waiting -= 1
        kind, body, timing = made
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"server-timing", timing.encode()),
        ]
        await answer({"type": "http.response.start", "status": 200, "headers": headers})
        await answer({"type": "http.response.body", "body": body})

    def _wanted(self, query: dict[str, str]) -> tuple[str, ...]:
        """Model, backend, precision and format of a request."""
        known: dict[str, list[str]] = {
            "model": self._models.keys,
            "backend": backends(),
            "precision": list(PRECISIONS),
            "format": list(FORMATS),
        }
        for name, value in query.items():
            if name not in known:
                raise RefusedError(400, f"unknown parameter; there are {', '.join(known)}")
            if value not in known[name]:
                raise RefusedError(400, f"{name} must be one of {', '.join(known[name])}")
        return tuple(query.get(name, known[name][0]) for name in known)

    @contextlib.asynccontextmanager
    async def _own_turn(self, receive: Receive) -> AsyncIterator[bool]:
        """The device's turn; False if the client has gone before it came."""
        turn = asyncio.ensure_future(self._turn.acquire())
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((turn, gone), return_when=asyncio.FIRST_COMPLETED)
            yield turn.done()
        finally:
            gone.cancel()
            if not turn.cancel() and not turn.cancelled():
                self._turn.release()

    def _made(
        self, path: Path, model: str, backend: str, precision: str, kind: str
    ) -> tuple[str, bytes, str]:
        """Content type and body of the answer, and what took how long; in a thread."""
        try:
            opened = open_upload(path)
            runner = self._models.runner(model, backend, cast(Precision, precision))
            class_map, milliseconds = runner.timed(opened.image)
        except BinsegError as error:
            raise RefusedError(400, str(error)) from error
        labels = runner.labels
        timing = ", ".join(f"{step};dur={time:.3f}" for step, time in milliseconds.items())
        if kind == "json":
            height, width = class_map.shape
            about = {
                "model": model,
                "backend": backend,
                "image": {"width": width, "height": height},
                "classes": [vars(each) for each in class_shares(class_map, labels)],
                "milliseconds": milliseconds,
                "notes": opened.notes,
            }
            return "application/json", json.dumps(about, ensure_ascii=False).encode(), timing
        buffer = BytesIO()
        if kind == "color":
            image = Image.fromarray(colorize(class_map, labels.palette))
        elif kind == "gray":
            image = Image.fromarray(class_map)
        else:
            image = mask_image(class_map, labels.palette)
        # for live frames time counts more than bytes
        image.save(buffer, "PNG", compress_level=1 if kind == "gray" else 6)
        return "image/png", buffer.getvalue(), timing


async def _store(scope: Scope, upload: Upload, path: Path) -> None:
    """Write the form's file `image` to `path`.

    Raises:
        RefusedError: no form with one such file.
    """
    missing = RefusedError(400, f"send one file called image as a form: {_EXAMPLE}")
    headers = Headers(scope=scope)
    if not headers.get("content-type", "").startswith("multipart/form-data"):
        raise missing

    async def stream() -> AsyncGenerator[bytes, None]:
        more = True
        while more:
            message = await upload.receive()
            yield message.get("body", b"")
            more = message.get("more_body", False)

    try:
        form = await MultiPartParser(headers, stream(), max_files=1, max_fields=0).parse()
    except MultiPartException as error:
        raise upload.refusal or missing from error
    except (KeyError, ValueError, UnicodeError) as error:  # forms that are none
        raise missing from error
    try:
        file = form.get("image")
        if not isinstance(file, UploadFile):
            raise missing

        def copy() -> None:
            with path.open("wb") as out:
                shutil.copyfileobj(file.file, out)

        await anyio.to_thread.run_sync(copy)
    finally:
        await form.close()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
