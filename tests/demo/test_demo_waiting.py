"""Requests that nobody waits for lose their place; those of slow clients keep it."""

import asyncio
import functools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from demo_models import write_tiny
from gradio_calls import API, functions

from binseg.data.imageio import write_image
from binseg.data.scenes import draw_scene
from binseg.demo import build, guard
from binseg.demo import waiting as waiting_module
from binseg.demo.page import MOST_WAITING, Page
from binseg.demo.serve import launch
from binseg.demo.waiting import Waiting


@pytest.fixture
def grace() -> float:
    """Clients must be quick to open a stream."""
    return 0.3


@pytest.fixture
def answer_kept() -> float:
    """Answers do not wait long either."""
    return 1.0


@pytest.fixture
def page(tmp_path, monkeypatch, grace, answer_kept) -> Iterator[Page]:
    """A page of its own."""
    quick = functools.partial(Waiting, grace=grace, answer_kept=answer_kept)
    monkeypatch.setattr(guard, "Waiting", quick)
    page = build([write_tiny(tmp_path)])
    launch(page)
    yield page
    page.close()


@pytest.fixture
def web(page) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=page.local_url, timeout=60) as client:
        yield client


@pytest.fixture
def call(web, tmp_path) -> dict[str, object]:
    """The body of a call of `/segment`."""
    path = tmp_path / "street.png"
    write_image(path, draw_scene(5, 2, (61, 83)).image)
    answer = web.post(f"{API}/upload", files={"files": ("x.png", path.read_bytes())})
    file = {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}
    return {"data": [file, "tiny", "reference"]}


@pytest.fixture
def device(page) -> Iterator[threading.Event]:
    """Nothing is segmented until it is set."""
    free = threading.Event()
    real = page.handlers._segment

    def later(*arguments: object) -> object:
        free.wait()
        return real(*arguments)

    page.handlers._segment = later
    yield free
    free.set()


@pytest.fixture
def all_asked(monkeypatch) -> Iterator[threading.Event]:
    """No place is lost until it is set, however slowly a test asks."""
    event = threading.Event()
    real = waiting_module._seconds

    async def later(seconds: float) -> None:
        while not event.is_set():
            await asyncio.sleep(0.01)
        await real(seconds)

    monkeypatch.setattr(waiting_module, "_seconds", later)
    yield event
    event.set()


def until(holds) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def waiting(web: httpx.Client) -> int:
    return web.get(f"{API}/queue/status").json()["queue_size"]


def ask(web: httpx.Client, call: dict[str, object], session: str | None = None) -> httpx.Response:
    if session is None:
        return web.post(f"{API}/call/segment", json=call)
    body = {**call, "fn_index": functions(web)["segment"], "session_hash": session}
    return web.post(f"{API}/queue/join", json=body)


@pytest.mark.parametrize("session", [None, "stranger"])
def test_places_without_a_stream_are_lost(page, web, call, device, all_asked, session):
    answers = [ask(web, call, session) for _ in range(MOST_WAITING + 4)]
    all_asked.set()
    # one runs, and the others fill the queue
    assert {answer.status_code for answer in answers} == {200, 503}
    until(lambda: waiting(web) == 0)
    device.set()
    queue = page._queue
    until(lambda: not (queue.event_ids_to_events or queue.pending_event_ids_session))
    assert not queue.pending_messages_per_session
    event = ask(web, call).json()["event_id"]
    assert "event: complete" in web.get(f"{API}/call/segment/{event}").text


def test_a_client_that_opens_its_stream_keeps_its_place(web, call, device, all_asked):
    first, second = (ask(web, call).json()["event_id"] for _ in range(2))
    with (
        web.stream("GET", f"{API}/call/segment/{first}") as one,
        web.stream("GET", f"{API}/call/segment/{second}") as other,
    ):
        # others come, whose places are lost, and none of theirs
        for _ in range(4):
            ask(web, call, "stranger")
        all_asked.set()
        until(lambda: waiting(web) == 1)
        device.set()
        for stream in (one, other):
            assert b"event: complete" in stream.read()


@pytest.mark.parametrize("answer_kept", [600.0])
def test_an_answer_that_is_ready_waits_for_its_client(page, web, call):
    event = ask(web, call).json()["event_id"]
    until(lambda: event not in page._queue.event_ids_to_events)
    time.sleep(0.5)  # longer than a place is kept
    assert "event: complete" in web.get(f"{API}/call/segment/{event}").text


@pytest.mark.parametrize("grace", [600.0])
def test_who_closes_the_stream_loses_the_place(web, call, device):
    for _ in range(4):
        assert ask(web, call, "stranger").status_code == 200
    with web.stream("GET", f"{API}/queue/data?session_hash=stranger") as stream:
        lines = stream.iter_lines()
        next(lines)
        assert waiting(web) == 3
    until(lambda: waiting(web) == 0)


def test_a_video_that_nobody_waits_for_is_ended(page, web, tmp_path, monkeypatch):
    stopped = threading.Event()

    def endless(*_: object, stop: threading.Event, **__: object) -> Path:
        assert stop.wait(60)
        stopped.set()
        (tmp_path / "out.webm").write_bytes(b"")
        return tmp_path / "out.webm"

    plan = type("Plan", (), {"notes": []})
    monkeypatch.setattr("binseg.demo.events.plan_video", lambda path: plan)
    monkeypatch.setattr("binseg.demo.events.segment_video", endless)
    answer = web.post(f"{API}/upload", files={"files": ("x.webm", b"any bytes")})
    file = {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}
    body = {"data": [file, "tiny", "reference", 60], "session_hash": "stranger"}
    body["fn_index"] = functions(web)["video"]
    assert web.post(f"{API}/queue/join", json=body).status_code == 200
    assert stopped.wait(60)
