"""The door in front of gradio: what is not the page's own use of it is answered here, in words.

Only names of this machine are answered, only pages of this server's may ask, only what the page and
gradio's clients use is there, and what is sent is checked and bounded in size and time. Gradio gets
requests with nothing in them but what was checked.
"""

import json
import re
import sys
from typing import Any

from gradio.block_function import BlockFunction

from binseg.demo.addresses import API, NOT_THERE, Address, cleaned, find_address, query_of
from binseg.demo.asgi import (
    Answer,
    Application,
    Message,
    Receive,
    RefusedError,
    Scope,
    Send,
    json_request,
)
from binseg.demo.hosts import AnsweredNames
from binseg.demo.inputs import (
    Call,
    check_call,
    check_named_call,
    check_session,
    parse_object,
)
from binseg.demo.page import Page
from binseg.demo.receiving import Upload, read_all
from binseg.demo.rest import Rest
from binseg.demo.uploads import upload_folder
from binseg.demo.waiting import Waiting


class Guard:
    """An ASGI application around gradio's.

    Args:
        app: gradio's.
        page: that it serves.
        names: that are answered.
    """

    def __init__(self, app: Application, page: Page, names: AnsweredNames) -> None:
        self._app = app
        self._page = page
        self._names = names
        self._rest = Rest(page.handlers.models)
        self._waiting = Waiting(page._queue, page.handlers.leave)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, Answer(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        address: Address | None = None
        try:
            self._admit(scope)
            address, parts = find_address(scope)
            serve = getattr(self, f"_{address.kind}")
            await serve(cleaned(scope, address, self._names), receive, answer, parts)
        except RefusedError as refusal:
            await answer.refuse(refusal)
        except TimeoutError:
            await answer.refuse(RefusedError(408, "this took too long; try again"))
        except Exception as error:
            # of interest to whoever runs the page, but not so much that strangers may fill the log
            where = address.path.pattern if address else ""
            print(f"binseg demo: {scope['method']} {where}: {_named(error)}", file=sys.stderr)
            answer.failed = True
        if answer.failed:
            await answer.refuse(RefusedError(500, "this request cannot be answered"))

    def _admit(self, scope: Scope) -> None:
        """Refuse what does not come from a page of this server's, under one of its names."""
        host = _header(scope, b"host")
        if host is None or not self._names.answers(host):
            raise RefusedError(
                403,
                f"this page does not answer to '{_line(host or '')}'; open the address that "
                "`binseg demo` shows, or start it with --allowed_hosts and this name",
            )
        foreign = RefusedError(403, "requests from pages of other servers are refused")
        origin = _header(scope, b"origin")
        if origin is not None and not self._names.is_own(origin, host):
            raise foreign
        # of requests without an Origin browsers say so in another header
        site = _header(scope, b"sec-fetch-site")
        is_link = scope["path"] == "/" and _header(scope, b"sec-fetch-mode") == "navigate"
        if site not in (None, "same-origin", "none") and not is_link:
            raise foreign

    async def _pass(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        await self._app(scope, receive, answer)

    async def _file(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        """An upload or an answer."""
        if upload_folder().find(parts["path"]) is None:
            raise NOT_THERE
        await self._app(scope, receive, answer)

    async def _upload(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        if upload_id := query_of(scope).get("upload_id"):
            check_session(upload_id)
        async with Upload(upload_folder(), scope, receive) as upload:

            async def send(message: Message) -> None:
                # gradio has no words for an upload that was refused on its way
                if upload.refusal is None:
                    await answer(message)

            try:
                await self._app(scope, upload.receive, send)
            except OSError:  # this machine's fault
                raise
            except Exception as error:
                # of forms that are none gradio's parser raises nearly anything
                if answer.status is None and upload.refusal is None:
                    upload.refusal = RefusedError(
                        400, "send files as multipart/form-data, each with its filename"
                    )
                    raise upload.refusal from error
                raise

    async def _progress(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        """How much of an upload has come."""
        check_session(query_of(scope).get("upload_id"))
        await self._app(scope, receive, answer)

    async def _segment(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        """An image and its answer in one request, without gradio."""
        await self._rest.segment(scope, receive, answer)

    async def _join(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        """A function, through the queue."""
        body = parse_object(await read_all(receive))
        call = check_call(self._function(body, queued=True), body, needs_session=True)
        await self._ask(scope, call, receive, answer)

    async def _run(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        """A function that answers at once."""
        body = parse_object(await read_all(receive))
        call = check_call(self._function(body, queued=False), body, needs_session=True)
        await self._app(*json_request(scope, call.body(), receive), answer)

    async def _call(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        """A function for programs, by its name."""
        body = parse_object(await read_all(receive))
        functions = self._page.fns.values()
        public = {each.api_name: each for each in functions if each.api_visibility == "public"}
        if parts["name"] not in public:
            raise NOT_THERE
        function = public[parts["name"]]
        if parts["v2"]:
            call = check_named_call(function, body)
        else:
            call = check_call(function, body, needs_session=False)
        # gradio need know one form only
        path = f"{API}/call/{parts['name']}"
        scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._ask(scope, call, receive, answer)

    async def _cancel(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        body = parse_object(await read_all(receive))
        known: dict[str, Any] = {
            name: check_session(body.get(name)) for name in ("session_hash", "event_id")
        }
        known["fn_index"] = self._function(body, queued=True)._id
        await self._app(*json_request(scope, json.dumps(known).encode(), receive), answer)

    async def _session_stream(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        """What becomes of all that a client has asked for."""
        session = check_session(query_of(scope).get("session_hash"))
        await self._stream(str(session), scope, receive, answer)

    async def _event_stream(
        self, scope: Scope, receive: Receive, answer: Answer, parts: re.Match[str]
    ) -> None:
        """What becomes of one call."""
        await self._stream(self._waiting.session_of(parts["event"]), scope, receive, answer)

    async def _stream(self, session: str, scope: Scope, receive: Receive, answer: Answer) -> None:
        if session not in self._page._queue.pending_messages_per_session:
            raise NOT_THERE
        with self._waiting.watching(session):
            await self._app(scope, receive, answer)

    async def _ask(self, scope: Scope, call: Call, receive: Receive, answer: Answer) -> None:
        """Hand a call to the queue, and see to it that its stream is opened."""
        taken = bytearray()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body" and answer.status == 200:
                taken.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    # before the client knows, who may be quick
                    self._waiting.asked(json.loads(taken)["event_id"], call.session)
            await answer(message)

        await self._app(*json_request(scope, call.body(), receive), send)

    def _function(self, body: dict[str, Any], *, queued: bool) -> BlockFunction:
        """The page's function that a body names by its number."""
        index = body.get("fn_index")
        if isinstance(index, int) and not isinstance(index, bool):
            function = self._page.fns.get(index)
            if function is not None and function.fn is not None and function.queue == queued:
                return function
        raise RefusedError(400, "fn_index must be the number of one of the page's functions")


def _header(scope: Scope, name: bytes) -> str | None:
    """Its value; two of them make one that nothing fits."""
    found = [value for key, value in scope["headers"] if key == name]
    return b" ".join(found).decode("latin-1") if found else None


def _named(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__} {_line(str(error))}".rstrip()


def _line(text: str) -> str:
    return "".join(character for character in text[:100] if character.isprintable())
