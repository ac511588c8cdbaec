"""From the command to the page: ports, models and what goes wrong with them."""

import runpy
import signal
import socket
import sys
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from binseg.cli import main
from binseg.demo import build
from binseg.demo.serve import launch
from binseg.errors import BinsegError


def test_a_taken_port_is_told(demo):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BinsegError, match=rf"port {port}; choose another --port"):
            launch(build([demo.tiny]), port=port)


def test_the_command_refuses_what_is_no_model(tmp_path, capsys):
    path = tmp_path / "notes.safetensors"
    path.write_text("no model")
    assert main(["demo", str(path)]) == 1
    assert "notes.safetensors" in capsys.readouterr().err
    assert main(["demo", "camvid-bse"]) == 1
    assert "camvid-base" in capsys.readouterr().err


def test_the_command_serves_until_it_is_ended(demo, capsys, monkeypatch):
    import gradio
    import httpx

    seen = []

    def look_once(page) -> None:
        seen.append(httpx.get(page.local_url).status_code)
        page.close()

    monkeypatch.setattr(gradio.Blocks, "block_thread", look_once)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(["demo", str(demo.tiny), str(demo.alone)]) == 0
    assert seen == [200]
    assert "http://127.0.0.1:" in capsys.readouterr().out


def test_app_py_has_the_page_that_hosts_look_for(monkeypatch):
    import gradio

    app = Path(__file__).parents[2] / "app.py"
    monkeypatch.setattr(sys, "argv", [str(app)])
    assert isinstance(runpy.run_path(str(app))["demo"], gradio.Blocks)
