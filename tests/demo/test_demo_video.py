"""Videos: every frame, limits with notes, stopping, and files that are none."""

from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest
from demo_models import write_tiny

from binseg.data.preprocess import resize_image
from binseg.data.scenes import draw_scene
from binseg.demo.models import ModelList
from binseg.demo.video import plan_video, segment_video
from binseg.errors import BinsegError
from binseg.predictor import Predictor
from binseg.program.executor import REFERENCE

SIZE = (46, 62)


def frames_of(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        readable, frame = capture.read()
        if not readable:
            return frames
        frames.append(frame[:, :, ::-1])


def write_video(path: Path, frames: int, *, rate: float = 10, codec: str = "MJPG") -> Path:
    """Scenes, lossily coded."""
    fourcc = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), fourcc, rate, (SIZE[1], SIZE[0]))
    for index in range(frames):
        writer.write(draw_scene(0, index, SIZE).image[:, :, ::-1])
    writer.release()
    return path


@pytest.fixture
def models(tmp_path) -> ModelList:
    return ModelList([write_tiny(tmp_path / "models", twin=False)])


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("mp4", "mp4v"), ("webm", "VP80")])
def test_every_frame(models, tmp_path, suffix, codec):
    path = write_video(tmp_path / f"in.{suffix}", 5, codec=codec)
    reports = []
    out = segment_video(
        path, models, "tiny", REFERENCE, tmp_path / "out", opacity=1.0,
        progress=lambda done, total: reports.append((done, total)),
    )  # fmt: skip
    assert reports == [(index, 5) for index in range(1, 6)]
    assert out.read_bytes()[:4] == b"\x1aE\xdf\xa3"  # Matroska, of which WebM is a part
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == [out.name]
    predictor = Predictor(models.get("tiny").path, device="cpu")
    expected = [predictor(np.ascontiguousarray(each)).overlay(1.0) for each in frames_of(path)]
    found = frames_of(out)
    assert len(found) == 5
    for index, frame in enumerate(found):  # the codecs are lossy, above all in colours
        distances = [np.abs(frame.astype(int) - other).mean() for other in expected]
        assert np.argmin(distances) == index
        assert distances[index] < 25


def test_limits_and_their_notes(tmp_path):
    path = write_video(tmp_path / "in.avi", 40)
    plan = plan_video(path)
    assert (plan.frames, plan.step, plan.rate, plan.size) == (40, 1, 10, SIZE)
    assert plan.notes == []
    plan = plan_video(path, most_seconds=2)
    assert (plan.frames, plan.step) == (20, 1)
    assert plan.notes == ["only the first 2 s of 4 s"]
    plan = plan_video(path, most_frames=15, longest=31)
    assert (plan.frames, plan.step, plan.rate) == (14, 3, pytest.approx(10 / 3))
    assert plan.size == (24, 32)
    assert plan.notes == [
        "only one frame in 3",
        "shown at 32 x 24; the upload has 62 x 46 pixels",
    ]


def test_skipped_and_shrunk_frames(models, tmp_path):
    path = write_video(tmp_path / "in.avi", 7)
    out = segment_video(
        path, models, "tiny", REFERENCE, tmp_path, opacity=0.0, most_frames=3, longest=32
    )
    found = frames_of(out)
    given = [resize_image(np.ascontiguousarray(f), (24, 32)) for f in frames_of(path)[::3]]
    assert len(found) == len(given) == 3
    for index, frame in enumerate(found):
        distances = [np.abs(frame.astype(int) - other).mean() for other in given]
        assert np.argmin(distances) == index


def test_stopping_keeps_what_is_done(models, tmp_path):
    path = write_video(tmp_path / "in.avi", 6)
    stop = Event()

    def after_two(done: int, total: int) -> None:
        if done == 2:
            stop.set()

    arguments = (path, models, "tiny", REFERENCE, tmp_path / "out")
    out = segment_video(*arguments, opacity=0.5, progress=after_two, stop=stop)
    assert len(frames_of(out)) == 2
    with pytest.raises(BinsegError, match=r"^in\.avi: stopped before the first frame"):
        segment_video(*arguments[:-1], tmp_path / "none", opacity=0.5, stop=stop)
    assert list((tmp_path / "none").iterdir()) == []


def test_nothing_is_left_after_a_fault(models, tmp_path):
    path = write_video(tmp_path / "in.avi", 4)

    def fail(done: int, total: int) -> None:
        raise BinsegError("no more")

    with pytest.raises(BinsegError, match="no more"):
        segment_video(path, models, "tiny", REFERENCE, tmp_path / "out", opacity=0.5, progress=fail)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_cut_off_gives_the_frames_that_are_there(models, tmp_path):
    path = write_video(tmp_path / "in.avi", 20)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    out = segment_video(path, models, "tiny", REFERENCE, tmp_path, opacity=0.5)
    assert 3 < len(frames_of(out)) < 20


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.mp4", b"", "empty file"),
        ("x.mp4", b"not a video at all", "not a video that binseg reads; use MP4"),
        ("x.mp4", b"\0\0\0\x20ftypisom" + bytes(300), "damaged"),
        ("x.webm", b"\x1aE\xdf\xa3" + bytes(300), "damaged"),
        ("x.avi", b"RIFF\0\0\0\0AVI " + bytes(300), "damaged"),
        # FFmpeg would open what the list names
        ("x.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "not a video that binseg reads"),
        ("gone.mp4", None, "no such file"),
    ],
)
def test_what_is_no_video(models, tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for run in (
        lambda: plan_video(path),
        lambda: segment_video(path, models, "tiny", REFERENCE, tmp_path / "out", opacity=0.5),
    ):
        with pytest.raises(BinsegError) as caught:
            run()
        assert str(caught.value).startswith(f"{name}: {message}")
        assert "/" not in str(caught.value)
    assert not (tmp_path / "out").exists()
