"""What clients send to the page's functions, checked before gradio sees it, and worded if wrong."""

import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction

from binseg.demo.asgi import RefusedError
from binseg.demo.uploads import find_upload
from binseg.errors import BinsegError, unknown_name

_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Call:
    """A call of one of the page's functions, with nothing in it but what was checked.

    Attributes:
        function: of the page.
        data: a value for each of its inputs.
        session: what the client calls itself; None if it does not.
    """

    function: BlockFunction
    data: list[Any]
    session: str | None

    def body(self) -> bytes:
        """For gradio's own address."""
        known = {"data": self.data, "fn_index": self.function._id, "session_hash": self.session}
        return json.dumps(known).encode()


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RefusedError: it is none.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RefusedError(400, "send a JSON object")
    return found


def check_session(value: object, *, needed: bool = True) -> str | None:
    """What a client calls itself, or an event.

    Raises:
        RefusedError: it is no short name.
    """
    if value is None and not needed:
        return None
    if not isinstance(value, str) or not _SESSION.fullmatch(value):
        raise RefusedError(400, "session_hash and event_id are up to 64 letters, digits, - and _")
    return value


def check_call(function: BlockFunction, body: dict[str, Any], *, needs_session: bool) -> Call:
    """A call with its inputs in a list, `{"data": […], "session_hash": …}`.

    Raises:
        RefusedError: wrong in number, type or range.
    """
    session = check_session(body.get("session_hash"), needed=needs_session)
    values = body.get("data")
    names = _parameters(function)
    if not isinstance(values, list) or len(values) != len(names):
        wanted = f"{len(names)} values: {', '.join(names)}" if names else "no values"
        raise RefusedError(400, f"data must be a list of {wanted}")
    return Call(function, _checked(function, names, values), session)


def check_named_call(function: BlockFunction, body: dict[str, Any]) -> Call:
    """A call with its inputs by their names; those left out have the page's first choice.

    Raises:
        RefusedError: wrong in name, type or range.
    """
    names = _parameters(function)
    session = check_session(body.get("session_hash"), needed=False)
    unknown = sorted(set(body) - {*names, "session_hash"})
    if unknown:
        raise RefusedError(400, str(unknown_name("parameter", unknown[0], names)))
    values = [
        body.get(name, getattr(component, "value", None))
        for name, component in zip(names, function.inputs, strict=True)
    ]
    return Call(function, _checked(function, names, values), session)


def _parameters(function: BlockFunction) -> list[str]:
    assert function.fn is not None
    return list(inspect.signature(function.fn).parameters)[: len(function.inputs)]


def _checked(function: BlockFunction, names: Sequence[str], values: Sequence[Any]) -> list[Any]:
    checked: list[Any] = []
    faults = []
    for name, component, value in zip(names, function.inputs, values, strict=True):
        try:
            # the page's own functions have words for a file that was taken away again
            optional = function.api_visibility != "public"
            checked.append(check_value(component, name, value, optional=optional))
        except BinsegError as error:
            # what gradio's own validators answer, and its clients word
            fault = {"__type__": "validate", "is_valid": False, "message": str(error)}
            faults.append({**fault, "parameter_name": name})
    if faults:
        raise RefusedError(422, faults)
    return checked


def check_value(component: object, name: str, value: Any, *, optional: bool) -> Any:
    """A value as the function gets it.

    Args:
        component: of the page, of which it is the value.
        name: of the function's parameter.
        value: of any type.
        optional: whether there may be no file.

    Raises:
        BinsegError: not a value of this component.
    """
    if isinstance(component, gr.Image | gr.Video):
        if value is None and optional:
            return None
        what = "an image" if isinstance(component, gr.Image) else "a video"
        path, called = find_upload(value, what)
        return {"path": str(path), "orig_name": called, "meta": {"_type": "gradio.FileData"}}
    if isinstance(component, gr.Dropdown):
        known = [str(choice) for _, choice in component.choices]
        if not isinstance(value, str) or value not in known:
            raise unknown_name(name, value if isinstance(value, str) else "", known)
        return value
    if isinstance(component, gr.Slider):
        return _number(name, value, component.minimum, component.maximum)
    if isinstance(component, gr.Dataset):
        return int(_number(name, value, 0, len(component.samples or []) - 1))
    raise BinsegError(f"{name}: nothing can be sent for it")  # a new kind of component


def _number(name: str, value: Any, least: float, most: float) -> float:
    # nan lies nowhere, and Python's integers may be larger than any float
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        raise BinsegError(f"{name} must be a number from {least:g} to {most:g}")
    return float(value)
