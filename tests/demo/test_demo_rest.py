"""The plain request for an image: `curl -F image=@street.jpg …/segment`."""

import io
import shutil
import subprocess
import threading

import httpx
import numpy as np
import pytest
from PIL import Image
from test_demo_guard import _no_traceback, raw, street, web, words  # noqa: F401

from binseg.demo import rest
from binseg.demo.uploads import LARGEST_FILE, work_folder
from binseg.predictor import Predictor


def asked(web, path, query="", **more):  # noqa: F811
    return web.post(f"/segment{query}", files={"image": (path.name, path.read_bytes())}, **more)


def opened(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return Image.open(io.BytesIO(answer.content))


def test_an_image_comes_back_as_ids_colours_or_shares(web, demo, street):  # noqa: F811
    expected = Predictor(demo.tiny)(street)
    ids = opened(asked(web, street))
    assert ids.mode == "P"
    np.testing.assert_array_equal(np.array(ids), expected.class_map)
    palette = np.array(expected.labels.palette, np.uint8)
    np.testing.assert_array_equal(np.array(ids.convert("RGB")), palette[expected.class_map])

    color = opened(asked(web, street, "?format=color"))
    np.testing.assert_array_equal(np.array(color), palette[expected.class_map])

    about = asked(web, street, "?format=json").json()
    assert about["image"] == {"width": 83, "height": 61}
    shares = {each["name"]: each["share"] for each in about["classes"]}
    assert shares == pytest.approx(expected.shares())
    assert about["model"] == "tiny"

    gray = asked(web, street, "?format=gray")
    assert opened(gray).mode == "L"
    np.testing.assert_array_equal(np.array(opened(gray)), expected.class_map)
    times = dict(part.split(";dur=") for part in gray.headers["server-timing"].split(", "))
    assert list(times) == ["pre-processing", "network", "upsampling"]
    assert all(float(time) >= 0 for time in times.values())
    twin = Predictor(demo.tiny.with_name("tiny.twin.safetensors"))(street).class_map
    full = np.array(opened(asked(web, street, "?precision=full")))
    assert (full == twin).mean() > 0.999
    missing = asked(web, street, "?model=alone&precision=full")
    assert missing.status_code == 400
    assert "without a full-precision twin" in words(missing)
    other = asked(web, street, "?model=alone&format=png")
    np.testing.assert_array_equal(np.array(opened(other)), Predictor(demo.alone)(street).class_map)
    assert not list(work_folder().iterdir())


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_command_of_the_readme(demo, street, tmp_path):  # noqa: F811
    out = tmp_path / "ids.png"
    command = ["curl", "-sS", "-F", f"image=@{street}", f"{demo.address}segment", "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.array(Image.open(out)), Predictor(demo.tiny)(street).class_map)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?model=none", "model must be one of tiny, alone"),
        ("?model=/etc/passwd", "model must be one of"),
        ("?precision=half", "precision must be one of binary, full"),
        ("?backend=tpu", "backend must be one of"),
        ("?format=bmp", "format must be one of png, color, json, gray"),
    ],
)
def test_what_is_not_there_is_refused(web, street, query, said):  # noqa: F811
    answer = asked(web, street, query)
    assert answer.status_code == 400
    assert said in words(answer)


def test_what_is_no_image_gets_words(web, tmp_path):  # noqa: F811
    for name, content, said in (
        ("notes.txt", b"no image", "image"),
        ("thin.png", None, "too thin"),
    ):
        path = tmp_path / name
        if content is None:
            Image.new("RGB", (900, 10)).save(path)
        else:
            path.write_bytes(content)
        answer = asked(web, path)
        assert answer.status_code == 400
        assert said in words(answer)
        assert str(work_folder()) not in answer.text
    for more in (
        {"content": b"bytes", "headers": {"content-type": "image/png"}},
        {"files": {"picture": ("a.png", b"x")}},
        {"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=y"}},
        {"content": b"", "headers": {"content-type": "multipart/form-data"}},
        {"data": {"image": "text"}},
    ):
        answer = web.post("/segment", **more)
        assert answer.status_code == 400
        assert "curl -F image=@" in words(answer)
    assert not list(work_folder().iterdir())


def test_the_door_is_the_page_s(web, demo, street):  # noqa: F811
    assert asked(web, street, headers={"Host": "evil.example"}).status_code == 403
    assert asked(web, street, headers={"Origin": "http://evil.example"}).status_code == 403
    assert asked(web, street, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert web.get("/segment").status_code == 405
    status, body = raw(
        demo,
        "POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
        f"boundary=x\r\nContent-Length: {2 * LARGEST_FILE}\r\n\r\n",
    )
    assert status == 413
    assert b"at most 40 MiB" in body


def test_one_at_a_time_and_no_more_than_can_wait(web, demo, street, monkeypatch):  # noqa: F811
    monkeypatch.setattr(rest, "MOST_WAITING", 2)
    began, go_on = threading.Event(), threading.Event()
    running, most = [0], [0]
    made = rest.Rest._made

    def slow(self, *arguments):
        running[0] += 1
        most[0] = max(most[0], running[0])
        began.set()
        assert go_on.wait(60)
        running[0] -= 1
        return made(self, *arguments)

    monkeypatch.setattr(rest.Rest, "_made", slow)
    come = threading.Semaphore(0)
    wanted = rest.Rest._wanted

    def counted(self, query):
        come.release()  # its place is taken before the server does anything else
        return wanted(self, query)

    monkeypatch.setattr(rest.Rest, "_wanted", counted)
    answers = []

    def ask() -> None:
        with httpx.Client(base_url=demo.address, timeout=60) as client:
            answers.append(asked(client, street).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert all(come.acquire(timeout=60) for _ in threads)
    assert began.wait(60)
    full = asked(web, street)
    assert full.status_code == 503
    assert "queue is full" in words(full)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert answers == [200, 200]
    assert most[0] == 1
