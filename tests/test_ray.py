"""A Ray cluster of two workers on this machine, one of which is killed in the middle."""

import contextlib
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small_packed import halves, write_small_packed

from binseg.cli.predict import predict
from binseg.data.imageio import read_mask, write_image

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'binseg[ray]', or `make ray`")

pytestmark = pytest.mark.ray

import binseg.ray  # noqa: E402 (what it needs is there)

COUNT = 300


@pytest.fixture(scope="module", autouse=True)
def cluster():
    os.environ["RAY_AUTH_MODE"] = "disabled"  # else it writes a file into the home folder
    # sockets have short names only
    folder = tempfile.mkdtemp(prefix="ray-", dir=os.environ["PYTEST_DEBUG_TEMPROOT"])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_small_packed(tmp_path_factory.mktemp("model") / "model.safetensors")


def children(parent: int) -> list[int]:
    return [
        int(child)
        for path in Path(f"/proc/{parent}/task").glob("*/children")
        for child in path.read_text().split()
    ]


def workers() -> list[int]:
    """Processes of the cluster that hold a network."""
    processes, found = children(os.getpid()), []
    while processes:
        each = processes.pop()
        with contextlib.suppress(OSError):  # it has ended
            processes += children(each)
            if b"_Files" in Path(f"/proc/{each}/cmdline").read_bytes():
                found.append(each)
    return found


def kill_one(out: Path, done: list[int]) -> None:
    """Kill a worker in the middle of the work; tells how many images were done."""
    while not done:
        count = len(list(out.glob("*.png")))
        if count > 20 and (found := workers()):
            os.kill(found[0], signal.SIGKILL)
            done.append(count)
        time.sleep(0.01)


def test_predict_loses_nothing_when_a_worker_is_killed(model, tmp_path, capsys):
    sizes = [(120 + number % 7, 160) for number in range(COUNT)]
    for number, size in enumerate(sizes):
        write_image(tmp_path / f"images/{number:03}.png", halves(*size))
    (tmp_path / "images/damaged.png").write_bytes(b"no image")
    images, out = str(tmp_path / "images"), tmp_path / "out"
    done: list[int] = []
    killer = threading.Thread(target=kill_one, args=(out, done), daemon=True)
    killer.start()
    assert predict(model, [images], out, overlay=False, ray=True) == 1
    killer.join(10)
    assert done
    assert done[0] < COUNT
    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert sorted(Path(record["file"]).stem for record in records) == [
        f"{number:03}" for number in range(COUNT)
    ]
    for record in records:
        (mask,) = record["outputs"]
        expected = halves(*sizes[int(Path(record["file"]).stem)])[..., 0] > 127
        assert np.array_equal(read_mask(mask), expected)
    assert len(list(out.glob("[!.]*.png"))) == COUNT
    assert "damaged.png: not an image" in capsys.readouterr().err
    # what is done is known without Ray, too; what the killed worker was writing goes
    assert predict(model, [images], out, overlay=False, continue_=True) == 1
    assert capsys.readouterr().out == ""
    assert len(list(out.glob("*.png"))) == COUNT


def test_a_dataset_gets_class_maps(model):
    images = [halves(10 + number, 14) for number in range(4)]
    rows = ray.data.from_items([{"id": n, "image": image} for n, image in enumerate(images)])
    found = binseg.ray.segment(rows, model).take_all()
    assert sorted(row["id"] for row in found) == [0, 1, 2, 3]
    for row in found:
        assert np.array_equal(row["image"], images[row["id"]])
        assert np.array_equal(row["class_map"], images[row["id"]][..., 0] > 127)
