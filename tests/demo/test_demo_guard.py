"""What strangers may not: names, origins, addresses, paths, values and uploads that are refused.

The log of the server, which runs in this process, has no traceback of any of it.
"""

import http.client
import json
import socket
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from gradio_calls import API, functions

from binseg.data.imageio import write_image
from binseg.data.scenes import draw_scene
from binseg.demo import receiving
from binseg.demo.uploads import LARGEST_FILE, upload_folder

META = {"_type": "gradio.FileData"}


@pytest.fixture
def web(demo) -> httpx.Client:
    with httpx.Client(base_url=demo.address, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_traceback(capfd):
    yield
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err


@pytest.fixture
def street(tmp_path) -> Path:
    path = tmp_path / "street.png"
    write_image(path, draw_scene(5, 2, (61, 83)).image)
    return path


def uploaded(web: httpx.Client, path: Path) -> str:
    answer = web.post(f"{API}/upload", files={"files": (path.name, path.read_bytes())})
    assert answer.status_code == 200
    return answer.json()[0]


def words(answer: httpx.Response) -> str:
    """What a client is told, which is short."""
    detail = answer.json()["detail"]
    text = detail if isinstance(detail, str) else " ".join(each["message"] for each in detail)
    assert len(text) < 400
    assert "\n" not in text
    return text


def raw(demo, text: str) -> tuple[int, bytes]:
    """Status and all of the answer to bytes that no library would send."""
    parts = urlsplit(demo.address)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(text.encode("latin-1"))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read()


# names


@pytest.mark.parametrize("path", ["/", "/config", f"{API}/info", f"{API}/file=/etc/passwd", "/x"])
def test_only_its_own_names_are_answered(web, demo, path):
    for host in ("evil.example", "evil.example:7860", "localhost.evil.example", "192.168.0.9"):
        answer = web.get(path, headers={"Host": host})
        assert answer.status_code == 403
        assert f"does not answer to '{host}'" in words(answer)
    port = urlsplit(demo.address).port
    for host in (f"localhost:{port}", "LOCALHOST.", "[::1]:9000", "127.0.0.1"):
        assert web.get("/config", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.0\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", 403),
        ("GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 403),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example\r\n"
         "Connection: close\r\n\r\n", 200),
    ],
)  # fmt: skip
def test_odd_heads(demo, head, status):
    found, body = raw(demo, head)
    assert found == status
    assert b"evil.example" not in body or status != 200


# origins


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", ""])
def test_pages_of_other_servers_may_not_ask(web, origin, street):
    for method, path in (
        ("GET", "/config"), ("POST", f"{API}/upload"), ("POST", f"{API}/queue/join"),
        ("OPTIONS", f"{API}/queue/join"), ("GET", f"{API}/queue/data?session_hash=a"),
    ):  # fmt: skip
        answer = web.request(
            method,
            path,
            files={"files": street.read_bytes()} if method == "POST" else None,
            headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
        )
        assert answer.status_code == 403
        assert "other servers" in words(answer)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_what_a_browser_says_of_requests_without_an_origin_counts(web):
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert web.get("/config", headers={**cross, "Sec-Fetch-Mode": "no-cors"}).status_code == 403
    assert web.get("/config", headers={**cross, "Sec-Fetch-Mode": "navigate"}).status_code == 403
    # a link to the page may stand anywhere
    assert web.get("/", headers={**cross, "Sec-Fetch-Mode": "navigate"}).status_code == 200
    assert web.get("/config", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_its_own_page_may_ask(web, demo, street):
    headers = {"Origin": demo.address.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    answer = web.post(
        f"{API}/upload", files={"files": ("x.png", street.read_bytes())}, headers=headers
    )
    assert answer.status_code == 200


# addresses


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{API}/deep_link?session_hash=a"), ("POST", f"{API}/component_server"),
        ("GET", f"{API}/proxy=https://x.hf.space/"), ("GET", f"{API}/dev/reload"),
        ("GET", f"{API}/custom_component/a/client/b/c"), ("POST", "/login"), ("GET", "/logout"),
        ("GET", f"{API}/token"), ("GET", f"{API}/openapi.json"), ("GET", "/monitoring/summary"),
        ("POST", f"{API}/stream/a"), ("GET", f"{API}/stream/a/b/1/playlist-file"),
        ("GET", f"{API}/file/etc/passwd"), ("POST", f"{API}/api/segment"), ("GET", "/docs"),
        ("GET", "/pwa_icon/5"), ("GET", f"{API}/vibe-code"), ("POST", f"{API}/call/image"),
        ("GET", "/static/../../../etc/passwd"), ("GET", "/assets//etc/passwd"),
        ("GET", "/svelte/%2e%2e/%2e%2e/x"), ("GET", f"{API}/call/segment/no-such-event"),
        ("GET", f"{API}/queue/data?session_hash=nobody"), ("GET", f"/static/{'a' * 300}"),
    ],
)  # fmt: skip
def test_what_the_page_does_not_use_is_not_there(web, method, path):
    answer = web.request(method, path, json={"data": []} if method == "POST" else None)
    assert answer.status_code == 404
    assert words(answer) == "there is nothing at this address"


def test_other_methods(web):
    for method, path in (("GET", f"{API}/upload"), ("PUT", "/"), ("DELETE", f"{API}/queue/join")):
        assert web.request(method, path).status_code == 405


# paths


def outside(demo, street: Path) -> list[str]:
    top = upload_folder().path
    return [
        str(street), str(street.with_name("none.png")), str(demo.tiny), "/etc/passwd", "/etc/none",
        "/proc/self/environ", "/", "relative.png", "../x.png", f"{top}/../{street.name}",
        f"{top}/hash/none.png", str(top), f"file://{street}", "http://127.0.0.1:1/x.png",
        "https://example.org/x.png", f"{street}\0", "", "a" * 5000,
    ]  # fmt: skip


def descriptions(path: str) -> list[object]:
    return [
        {"path": path}, {"path": path, "meta": META}, path, [path], {"url": path, "meta": META},
        {"path": path, "url": path, "orig_name": "x.png", "is_stream": True, "meta": META},
    ]  # fmt: skip


def test_no_file_but_an_upload_is_opened_or_told_from_one_that_is_missing(
    web, demo, street, monkeypatch
):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("binseg.demo.events.open_upload", never)
    monkeypatch.setattr("binseg.demo.events.plan_video", never)
    answers = set()
    chosen = ["tiny", "reference"]
    values = dict.fromkeys(("image", "again", "model", "segment", "image_1"), chosen)
    values |= {"video": [*chosen, 60], "explanation": ["tiny"]}
    number = functions(web)
    for path in outside(demo, street):
        for value in descriptions(path):
            for name, rest in values.items():
                body = {"data": [value, *rest], "session_hash": "stranger"}
                body["fn_index"] = number[name]
                answer = web.post(f"{API}/queue/join", json=body)
                assert answer.status_code == 422
                answers.add(words(answer).replace("a video", "an image"))
            for answer in (
                web.post(f"{API}/call/segment", json={"data": [value, "tiny", "reference"]}),
                web.post(f"{API}/call/v2/segment", json={"image": value}),
            ):
                assert answer.status_code == 422
                answers.add(words(answer))
    assert len(answers) == 1
    for path in outside(demo, street):
        answer = web.get(f"{API}/file={quote(path)}")
        assert answer.status_code == 404
        assert words(answer) == "there is nothing at this address"


def test_uploads_and_answers_are_there(web, street):
    path = uploaded(web, street)
    assert web.get(f"{API}/file={quote(path)}").content == street.read_bytes()
    for header, size in (("bytes=0-9", 10), ("bytes=5-5", 1)):
        answer = web.get(f"{API}/file={quote(path)}", headers={"Range": header})
        assert (answer.status_code, len(answer.content)) == (206, size)
    for header in ("bytes=0-5-7", "bytes=²-³", "bytes=-", "bytes=9-1", "lines=1-2", "bytes=x-y"):
        answer = web.get(f"{API}/file={quote(path)}", headers={"Range": header.encode()})
        assert answer.status_code in (200, 206, 416)


def test_no_folder_of_the_server_is_named(web, demo):
    for path in ("/", "/config", f"{API}/info"):
        assert str(demo.tiny.parent) not in web.get(path).text


# values

WRONG = [None, True, -1, 1e9, 10**400, "x", "", "x" * 5000, "\0", [], [[]], {}, {"a": []}]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:20])
def test_wrong_values_are_told_in_words(web, street, value):
    image = {"path": uploaded(web, street), "meta": META}
    calls = [
        ("load_example", [value]),
        ("image", [image, value, "reference"]),
        ("image", [image, "tiny", value]),
        ("again", [image, value, "reference"]),
        ("model", [image, value, "reference"]),
        ("video", [image, "tiny", "reference", value]),
        ("explanation", [image, value]),
        ("segment", [image, value, "reference"]),
    ]
    if value is not None:  # for the page nothing is an image that was taken away
        calls.append(("image", [value, "tiny", "reference"]))
    number = functions(web)
    for name, data in calls:
        where = "run/predict" if name == "load_example" else "queue/join"
        body = {"fn_index": number[name], "data": data, "session_hash": "stranger"}
        answer = web.post(f"{API}/{where}", json=body)
        assert answer.status_code == 422, name
        assert words(answer)
    answer = web.post(f"{API}/call/segment", json={"data": [image, "tiny", value]})
    assert answer.status_code == 422
    for body in (
        {"fn_index": value, "data": []},
        {"fn_index": number["image"], "data": value},
    ):
        answer = web.post(f"{API}/queue/join", json={**body, "session_hash": "stranger"})
        assert answer.status_code == 400
        assert words(answer)
    if value not in ("x",):
        body = {"fn_index": number["stop"], "data": [image, "tiny"], "session_hash": value}
        assert web.post(f"{API}/queue/join", json=body).status_code == 400
        body = {"fn_index": number["video"], "session_hash": "stranger", "event_id": value}
        assert web.post(f"{API}/cancel", json=body).status_code == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"null", b'"x"', b"\xff", b"[" * 50_000, b"{}", b'{"data": 1}',
     b'{"data": [NaN, Infinity]}', b"1" * 5000, b'{"image": 1, "colour": 2}', b'{"fn_index": 99}',
     b'{"fn_index": 8, "data": []}', b'{"fn_index": 5, "data": [], "session_hash": "a"}'],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_what_is_no_call_at_all(web, body):
    for where in ("queue/join", "call/segment", "call/v2/segment", "cancel"):
        for kind in ("application/json", "text/plain", "multipart/form-data"):
            answer = web.post(f"{API}/{where}", content=body, headers={"Content-Type": kind})
            assert answer.status_code in (400, 422)
            assert words(answer)


def test_functions_that_wait_their_turn_do_not_run_without_it(web, street):
    body = {"data": [{"path": uploaded(web, street), "meta": META}, "tiny", "reference"],
            "fn_index": functions(web)["segment"], "session_hash": "stranger"}  # fmt: skip
    for name in ("segment", "predict"):
        assert web.post(f"{API}/run/{name}", json=body).status_code == 400


def test_a_body_that_is_too_large(web):
    answer = web.post(f"{API}/queue/join", content=b" " * (receiving.LARGEST_BODY + 1))
    assert answer.status_code == 413
    assert "at most 65536 bytes" in words(answer)


def test_a_call_by_names_has_the_first_choices(web, street):
    path = uploaded(web, street)
    asked = web.post(f"{API}/call/v2/segment", json={"image": {"path": path, "meta": META}})
    answer = web.get(f"{API}/call/segment/{asked.json()['event_id']}").text
    figures = json.loads(answer.rpartition("data: ")[2])[2]
    assert figures["model"] == "tiny"
    answer = web.post(f"{API}/call/v2/segment", json={"image": {"path": path}, "modle": "tiny"})
    assert answer.status_code == 400
    assert "did you mean 'model'" in words(answer)


# uploads


def stored() -> set[Path]:
    return {path for path in upload_folder().path.rglob("*") if path.is_file()}


HEAD = (
    f"POST {API}/upload HTTP/1.1\r\nHost: localhost\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\n"
)
PART = '\r\n--b\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'


def until(holds) -> None:
    """Wait for something that happens in the server's own time."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_request_that_says_that_it_is_too_large_is_refused_at_once(demo):
    head = HEAD + f"Content-Length: {2 * LARGEST_FILE}\r\n\r\n"
    status, body = raw(demo, head)
    assert status == 413
    assert b"at most 40 MiB" in body


@pytest.mark.parametrize("files", [["x.png"], ["x.png", "y.png", "z.png"], [None]])
def test_one_that_does_not_say_so_is_refused_on_its_way(web, monkeypatch, files):
    monkeypatch.setattr(receiving, "LARGEST_FILE", 100_000)
    before = stored()

    def chunks():
        for name in files:
            part = PART if name else PART.replace('; filename="x.png"', "")
            yield part.replace("x.png", str(name)).encode()
            for _ in range(20):
                yield bytes(200_000 // 20 // len(files))
        yield b"\r\n--b--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = web.post(f"{API}/upload", content=chunks(), headers=kind)
    assert answer.status_code == 413
    assert "a file may have at most" in words(answer)
    assert stored() == before


def begun(demo) -> socket.socket:
    """The connection of an upload of which a part is stored, and no more comes."""
    before = stored()
    parts = urlsplit(demo.address)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=30)
    head = HEAD + "Content-Length: 100000\r\n\r\n" + PART
    connection.sendall(head.encode() + bytes(20_000))
    until(lambda: stored() != before)
    return connection


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        (f"multipart/form-data; boundary={'x' * 300}", b"--xx"),
        ("multipart/form-data; boundary=x", b"anything"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\na\r\n--x--\r\n',
        ),
    ],
    ids=["boundary", "no form", "no name", "no filename"],
)
@pytest.mark.parametrize("watched", [False, True])
def test_forms_that_are_none(web, capfd, kind, form, watched):
    before = stored()
    capfd.readouterr()
    answer = web.post(
        f"{API}/upload",
        params={"upload_id": "mine"} if watched else {},
        content=form,
        headers={"Content-Type": kind},
    )
    assert answer.status_code == 400
    assert 0 < len(answer.text) < 200
    assert "\n" not in answer.text
    assert capfd.readouterr().err == ""
    assert stored() == before


def test_of_an_upload_that_is_broken_off_nothing_stays(demo):
    before = stored()
    begun(demo).close()
    until(lambda: stored() == before)


def test_an_upload_that_stands_still_is_ended(demo, monkeypatch):
    before = stored()
    with begun(demo) as connection:
        # of this one the time has begun; of the next parts it is
        monkeypatch.setattr(receiving, "_IDLE_SECONDS", 0.01)
        connection.sendall(b"x")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 408
        assert b"too slowly" in answer.read()
    until(lambda: stored() == before)


def test_all_uploads_together_have_a_limit(web, street, monkeypatch):
    monkeypatch.setattr(upload_folder(), "_most", 0)
    before = stored()
    answer = web.post(f"{API}/upload", files={"files": ("x.png", street.read_bytes())})
    assert answer.status_code == 503
    assert words(answer) == "there is no room for uploads now; try again in a minute"
    assert stored() <= before
    monkeypatch.undo()
    monkeypatch.setattr(receiving, "MOST_AT_ONCE", 0)
    answer = web.post(f"{API}/upload", files={"files": ("x.png", street.read_bytes())})
    assert answer.status_code == 503
    assert "too many uploads at once" in words(answer)
    monkeypatch.undo()
    uploaded(web, street)


# the unforeseen


def test_a_fault_is_one_line_in_the_log(web, street, monkeypatch, capfd):
    path = uploaded(web, street)

    def fail(*_: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(upload_folder(), "find", fail)
    capfd.readouterr()
    answer = web.get(f"{API}/file={quote(path)}")
    assert answer.status_code == 500
    assert words(answer) == "this request cannot be answered"
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("binseg demo: GET /gradio_api/file=")
    assert line.endswith("RuntimeError firstsecond")


def test_gradios_own_faults_are_worded_too(web, monkeypatch, capfd):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("inside gradio")

    monkeypatch.setattr("gradio.queueing.Queue.get_status", fail)
    capfd.readouterr()
    answer = web.get(f"{API}/queue/status")
    assert answer.status_code == 500
    assert words(answer) == "this request cannot be answered"
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith("RuntimeError inside gradio")
