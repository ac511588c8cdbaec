"""hf: names, against a hub on this machine that knows the few requests they need."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from binseg.cli.main import main
from binseg.errors import BinsegError
from binseg.hub import fetch
from binseg.shipped import shipped_models

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Repositories in memory: name → file → content."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: object, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            files = self.server.files.get("/".join(parts[2:4]))
            if files is None:
                self.answer(404, X_Error_Code="RepoNotFound")
            elif "tree" in parts:
                sizes = {name: len(content) for name, content in files.items()}
                about = {"type": "file", "oid": COMMIT}
                self.json([{**about, "path": name, "size": size} for name, size in sizes.items()])
            else:
                siblings = [{"rfilename": name} for name in files]
                self.json({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings})
            return
        files = self.server.files.get("/".join(parts[:2]))
        content = None if files is None else files.get("/".join(parts[4:]))
        if content is None:
            self.answer(404, X_Error_Code="RepoNotFound" if files is None else "EntryNotFound")
            return
        etag = hashlib.sha256(content).hexdigest()
        self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)

    def do_POST(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.headers.get("Authorization"):
            self.answer(401, b'{"error": "Invalid username or password."}')
        elif self.path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted.get('organization', 'me')}/{wanted['name']}"
            self.server.files.setdefault(name, {})
            self.json({"url": f"{self.server.address}/{name}"})
        elif self.path == "/api/validate-yaml":
            self.json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            answers = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self.json({"files": answers})
        elif "/commit/" in self.path:
            name = "/".join(self.path.split("/")[3:5])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.server.files[name][entry["value"]["path"]] = content
            self.json(
                {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.server.address}/{name}"}
            )
        else:
            self.answer(404)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub.constants as constants

    server = Hub()
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    yield server
    server.shutdown()
    server.server_close()


def run(hub: Hub, cache: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`binseg ARGUMENTS` in a process of its own, with the hub's environment from the start."""
    return subprocess.run(
        [sys.executable, "-m", "binseg", *arguments],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            **environment,
        },
    )


def test_push_then_use_by_name(hub: Hub, tmp_path: Path):
    shipped = shipped_models()["camvid-small"].path
    pushed = run(hub, tmp_path, "push", str(shipped), "hf:me/streets", HF_TOKEN="hf_x")
    assert pushed.returncode == 0, pushed.stderr
    assert hub.files["me/streets"]["model.safetensors"] == shipped.read_bytes()
    card = hub.files["me/streets"]["README.md"].decode()
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "image-segmentation"
    assert "pedestrian" in card
    assert "binseg predict hf:me/streets" in card
    used = run(hub, tmp_path, "summary", "hf:me/streets")
    assert used.returncode == 0, used.stderr
    hub.asked.clear()
    again = run(hub, tmp_path, "summary", "hf:me/streets", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert not hub.asked  # the cache alone


def test_nobody_logged_in(hub: Hub, tmp_path: Path):
    shipped = shipped_models()["camvid-small"].path
    refused = run(hub, tmp_path, "push", str(shipped), "hf:me/streets")
    assert refused.returncode == 1
    assert "hf auth login" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "name", "says"),
    [
        (None, "hf:me/nothing", "no such model on the hub"),
        ({"a.safetensors": b"", "b.safetensors": b""}, "hf:me/m", "a.safetensors, b.safetensors"),
        ({"x.txt": b""}, "hf:me/m", "it has none"),
        ({"a.safetensors": b""}, "hf:me/m/c.safetensors", "no such file"),
    ],
)
def test_what_the_hub_has_not_is_said(hub: Hub, files, name, says):
    if files is not None:
        hub.files["me/m"] = files
    with pytest.raises(BinsegError, match=says):
        fetch(name)


def test_the_only_file_needs_no_name(hub: Hub):
    hub.files["me/m"] = {"README.md": b"", "street.safetensors": b"content"}
    assert fetch("hf:me/m").read_bytes() == b"content"
    assert fetch("hf:me/m/street.safetensors@main").read_bytes() == b"content"


@pytest.mark.parametrize(
    "name", ["hf:", "hf:one", "hf:a/b/../c.safetensors", "hf:a/b/c.bin", "hf:a/b@x y", "hf:/etc/x"]
)
def test_other_forms_are_refused_without_a_request(hub: Hub, name: str):
    with pytest.raises(BinsegError, match="not a model's name on the hub"):
        fetch(name)
    assert not hub.asked


def test_a_foreign_file_is_not_pushed(hub: Hub, tmp_path: Path, capsys):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(b"nonsense")
    assert main(["push", str(path), "hf:me/x"]) == 1
    assert str(path) in capsys.readouterr().err
    assert not hub.asked
