"""`binseg predict` on many images: shards, worker processes, and what is killed in the middle."""

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from small_packed import LABELS, halves, write_small_packed

from binseg.cli import predict as command
from binseg.cli.predict import predict
from binseg.data.imageio import read_mask, write_image
from binseg.errors import BinsegError
from binseg.inference.protocol import WHOLE
from binseg.prediction.inputs import Inputs
from binseg.prediction.records import Made, Shard
from binseg.prediction.segmenting import Job
from binseg.prediction.workers import segment_all
from binseg.predictor import Predictor, Segmentation

SIZES = [(6 + number % 5, 8 + number % 3) for number in range(40)]


@pytest.fixture
def model(tmp_path) -> Path:
    return write_small_packed(tmp_path / "model.safetensors")


@pytest.fixture
def images(tmp_path) -> Path:
    for number, size in enumerate(SIZES):
        write_image(tmp_path / f"images/{number:03}.bmp", halves(*size))
    return tmp_path / "images"


def records_in(out: Path) -> list[dict]:
    lines = [line for path in sorted(out.glob("*.jsonl")) for line in path.open()]
    return [json.loads(line) for line in lines]


def assert_all_is_there_once(out: Path, images: Path) -> None:
    records = records_in(out)
    assert sorted(record["file"] for record in records) == sorted(map(str, images.iterdir()))
    for record in records:
        size = SIZES[int(Path(record["file"]).stem)]
        (mask,) = record["outputs"]
        assert np.array_equal(read_mask(mask), halves(*size)[..., 0] > 127)
    assert {path.suffix for path in out.iterdir()} == {".png", ".jsonl"}
    assert len(list(out.glob("*.png"))) == len(SIZES)


def test_shards_share_the_images_and_their_number_may_change(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    settings = {"model": model, "images": [str(images)], "out": out, "overlay": False}
    for number in (2, 0, 1):
        assert predict(**settings, shard=f"{number}/3") == 0
    assert [path.name for path in sorted(out.glob("*.jsonl"))] == [
        f"predictions-0000{number}-of-00003.jsonl" for number in range(3)
    ]
    assert_all_is_there_once(out, images)
    write_image(images / "000.bmp", halves(*SIZES[0]))  # that one has changed
    capsys.readouterr()
    assert predict(**settings, continue_=True) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["file"] for line in printed.out.splitlines()] == [
        str(images / "000.bmp")
    ]
    assert "39 of 40 images were done before" in printed.err
    with pytest.raises(BinsegError, match="of another number of shards; go on with it by --cont"):
        predict(**settings, shard="0/2")
    for wrong in ("3/3", "1", "a/b", "-1/2"):
        with pytest.raises(BinsegError, match="must be i/n"):
            predict(**settings, shard=wrong)


def test_a_killed_run_goes_on_and_loses_nothing(model, images, tmp_path):
    """The whole run is killed in the middle, workers and all."""
    out = tmp_path / "out"
    arguments = ["predict", model, images, "--out", out, "--no-overlay", "--workers", 2]
    line = [sys.executable, "-m", "binseg", *map(str, arguments)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGKILL)
    assert all(first), process
    done = len(records_in(out))
    (out / ".005-binseg-a1b2c3d4.png").write_bytes(b"half a")  # what a kill may leave
    precious = out / ".img-20260101.png"
    precious.write_text("somebody's")
    assert 3 <= done < len(SIZES)
    again = subprocess.run([*line, "--continue"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(again.stdout.splitlines()) == len(SIZES) - done
    assert precious.read_text() == "somebody's"
    precious.unlink()
    assert_all_is_there_once(out, images)


class HeldNetwork:
    """A network of this process, as one on a GPU is; kills its worker at one image."""

    packed = None
    labels = LABELS

    def __init__(self, model: Path, deadly: tuple[int, int] = (0, 0), times: int = 9):
        self.network, self.deadly, self.times = Predictor(model), deadly, times

    def __call__(self, image: np.ndarray) -> Segmentation:
        if image.shape[:2] == self.deadly and self.times:
            self.times -= 1
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)
        return self.network(image)


def job(model: Path, out: Path) -> Job:
    return Job(str(model), out, Made("x", None), "cpu", WHOLE)


@pytest.mark.parametrize("own", [True, False], ids=["own network", "one network"])
def test_workers_do_the_same_in_the_same_order(model, images, tmp_path, own):
    paths = sorted(map(str, images.iterdir()))
    write_image(images / "damaged.bmp", halves(4, 4))
    (images / "damaged.bmp").write_bytes(b"no image")
    network = Predictor(model) if own else HeldNetwork(model)
    found = list(
        segment_all(
            job(model, tmp_path / "out"), network, iter([str(images / "damaged.bmp"), *paths]), 2
        )
    )
    assert [each.path for each in found[1:]] == paths
    assert "damaged.bmp: not an image" in found[0].fault
    assert found[0].record is None
    (images / "damaged.bmp").unlink()
    for outcome in found[1:]:
        size = SIZES[int(Path(outcome.path).stem)]
        assert (outcome.record["height"], outcome.record["width"]) == size
        assert np.array_equal(read_mask(outcome.record["outputs"][0]), halves(*size)[..., 0] > 127)


def test_a_killed_worker_loses_nothing(model, images, tmp_path):
    paths = sorted(map(str, images.iterdir()))
    outcomes = segment_all(job(model, tmp_path / "out"), Predictor(model), iter(paths), 2)
    found = [next(outcomes)]
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    found += outcomes
    assert [each.path for each in found] == paths
    assert all(each.record for each in found)
    assert multiprocessing.active_children() == []


def test_an_image_that_kills_its_workers_is_named(model, images, tmp_path):
    write_image(images / "005.bmp", halves(30, 30))
    paths = sorted(map(str, images.iterdir()))
    network = HeldNetwork(model, deadly=(30, 30))
    found = list(segment_all(job(model, tmp_path / "out"), network, iter(paths), 1))
    assert [each.path for each in found] == paths
    assert [Path(each.path).stem for each in found if not each.record] == ["005"]
    assert "005.bmp: the process that read it was killed, 2 times" in found[5].fault
    with pytest.raises(BinsegError, match=r"killed one after the other.* lower --workers"):
        list(segment_all(job(model, tmp_path / "out"), network, itertools.repeat(paths[5]), 1))


def test_no_overlays_of_many_images_unless_asked(model, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "MOST_OVERLAYS", 3)
    settings = {"model": model, "images": [str(images / "00[0-4].bmp")]}
    assert predict(**settings, out=tmp_path / "a") == 0
    assert not list((tmp_path / "a").glob("*.jpg"))
    assert "5 images: no overlays are drawn (--overlay draws them)" in capsys.readouterr().err
    assert predict(**settings, out=tmp_path / "a", overlay=True, continue_=True) == 0
    assert len(list((tmp_path / "a").glob("*.jpg"))) == 5
    capsys.readouterr()
    # whoever has overlays has masks
    assert predict(**settings, out=tmp_path / "a", overlay=False, continue_=True) == 0
    assert capsys.readouterr().out == ""


class TestInputs:
    @pytest.fixture
    def tree(self, tmp_path, monkeypatch) -> Path:
        for name in ("a/2.png", "a/1.jpg", "a/b/3.png", "a/.hidden/4.png", "a/.5.png", "c/6.bmp"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        (tmp_path / "a/b/circle").symlink_to(tmp_path / "a")
        (tmp_path / "a/gone.jpg").symlink_to(tmp_path / "nowhere")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @pytest.mark.parametrize(
        ("patterns", "names"),
        [
            (["a"], ["a/1.jpg", "a/2.png"]),
            (["./a/"], ["a/1.jpg", "a/2.png"]),
            (["*/*.png"], ["a/2.png"]),
            (["a/[12].*", "a/2.png"], ["a/1.jpg", "a/2.png"]),
            (["**/*.png"], ["a/2.png", "a/b/3.png"]),
            (["a/**"], ["a/1.jpg", "a/2.png", "a/b/3.png"]),
            (["c/6.bmp", "?/6*"], ["c/6.bmp"]),
        ],
    )
    def test_files_folders_and_patterns(self, tree, patterns, names):
        inputs = Inputs(patterns, lambda path: False)
        assert list(inputs.images(Shard())) == names
        assert inputs.look(Shard()).count == len(names)
        absolute = Inputs([str(tree / each) for each in patterns], lambda path: False)
        assert list(absolute.images(Shard())) == [str(tree / each) for each in names]

    def test_what_is_left_out_is_named(self, tree):
        found = Inputs(["a", "none", "a/*.gif"], lambda path: path == "a/2.png").look(Shard())
        assert (found.count, found.outputs, found.left_out) == (1, 1, 4)
        text = "\n".join(found.lines)
        assert "a/gone.jpg: left out: a link to" in text
        assert "a/b: left out: a folder with images in it" in text
        assert "skipped none: no such file or folder" in text
        assert "skipped a/*.gif: no such file" in text

    def test_memory_does_not_grow_with_the_number_of_folders(self, tmp_path):
        def peak(folders: int) -> int:
            for number in range(folders):
                folder = tmp_path / f"{folders}/{number}"
                folder.mkdir(parents=True)
                for name in range(60):
                    (folder / f"{name}.jpg").touch()
            inputs = Inputs([str(tmp_path / f"{folders}/*/*.jpg")], lambda path: False)
            tracemalloc.start()
            assert sum(1 for _ in inputs.images(Shard())) == 60 * folders
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return most

        assert peak(40) < 1.5 * peak(4)
