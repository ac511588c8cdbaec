"""The addresses that are there: of gradio's many those that the page and gradio's clients use."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from binseg.demo.asgi import RefusedError, Scope
from binseg.demo.hosts import AnsweredNames

API = "/gradio_api"
NOT_THERE = RefusedError(404, "there is nothing at this address")

_ID = r"[A-Za-z0-9_-]{1,64}"
_RANGE = re.compile(rb"bytes=(\d{1,15}-\d{0,15}|-\d{1,15})")
# gradio builds addresses from them; a proxy that is not known could set them, and so can anybody
_FORWARDED = (b"x-forwarded-host", b"x-gradio-server")


@dataclass(frozen=True)
class Address:
    """Some addresses that are there.

    Attributes:
        methods: of HTTP.
        path: the whole of it, decoded.
        kind: names what `Guard` does about it; "pass" is nothing more.
        query: parameters that gradio may see.
    """

    methods: tuple[str, ...]
    path: re.Pattern[str]
    kind: str
    query: tuple[str, ...]


def _address(methods: str, path: str, kind: str = "pass", query: str = "") -> Address:
    return Address(tuple(methods.split()), re.compile(path), kind, tuple(query.split()))


ADDRESSES = (
    _address("GET HEAD", "/"),
    _address("GET HEAD", r"/(?:assets|static|svelte)(?:/(?!\.)[A-Za-z0-9_@.-]{1,120}){1,8}"),
    _address("GET HEAD", r"/(?:favicon\.ico|robots\.txt|manifest\.json|config|theme\.css)"),
    _address("GET", f"{API}/(?:info|startup-events|theme\\.css|queue/status)"),
    _address("POST", "/segment", "segment", "model backend precision format"),
    _address("GET HEAD", f"{API}/file=(?P<path>.+)", "file"),
    _address("POST", f"{API}/upload", "upload", "upload_id"),
    _address("GET", f"{API}/upload_progress", "progress", "upload_id"),
    _address("POST", f"{API}/queue/join", "join"),
    _address("POST", f"{API}/run/{_ID}", "run"),
    _address("POST", f"{API}/call/(?P<v2>v2/)?(?P<name>{_ID})/?", "call"),
    _address("POST", f"{API}/cancel", "cancel"),
    _address("GET", f"{API}/queue/data", "session_stream", "session_hash"),
    _address("GET", f"{API}/call/(?:v2/)?{_ID}/(?P<event>{_ID})", "event_stream"),
    _address("GET", f"{API}/heartbeat/{_ID}"),
)


def find_address(scope: Scope) -> tuple[Address, re.Match[str]]:
    """What a request asks for, and the parts of its path.

    Raises:
        RefusedError: there is nothing there, or nothing that takes this method.
    """
    there = False
    for address in ADDRESSES:
        if parts := address.path.fullmatch(scope["path"]):
            if scope["method"] in address.methods:
                return address, parts
            there = True
    raise RefusedError(405, "this address does not take this method") if there else NOT_THERE


def cleaned(scope: Scope, address: Address, names: AnsweredNames) -> Scope:
    """The request without headers and parameters that gradio should not see."""
    headers = []
    for name, value in scope["headers"]:
        if name in _FORWARDED:
            first = value.split(b",")[0].strip().decode("latin-1")
            if not names.answers(first):
                continue
        if name == b"range" and not _RANGE.fullmatch(value):
            continue
        headers.append((name, value))
    query = {name: value for name, value in query_of(scope).items() if name in address.query}
    return {**scope, "headers": headers, "query_string": urlencode(query).encode()}


def query_of(scope: Scope) -> dict[str, str]:
    """The parameters of a request's address."""
    return dict(parse_qsl(scope["query_string"].decode("latin-1")[:1000]))
